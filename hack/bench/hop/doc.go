// Command hop measures what a hop through Sidestep costs, side by side with
// what others need for the same: `make bench-hop`.
//
//	+-------------------- this process --------------------+
//	|  rounds: every contender once, in a shuffled order   |
//	|  generator: fasthttp's client                        |
//	+-------+-------------------------------------^--------+
//	   POST | 1 KiB event                         | ids that reached step 5
//	        v                                     | (a pipe)
//	+--- contender ---+   POST, answer    +--- steps ----+
//	| a process, new  | ----------------> | a process,   |
//	| for every round | <---------------- | new as well  |
//	+-----------------+    five times     +--------------+
//
// Contenders of the flow: a bare net/http loop and a bare fasthttp loop (both
// answer 202 first and keep nothing), a direct chain (each step posts to the
// next), the data plane of eventing's in-memory channel, a minimal
// store-and-forward loop on raw JetStream, and Sidestep with shortCircuit
// Always and Never: the real binary in standalone mode with its embedded
// JetStream server and files on disk. Each is warmed up with the load of the
// throughput measurement; then measured are
//
//   - hops: one event at a time; from just before a step writes its answer until
//     the next step's handler is entered, by the clock of the steps' process;
//   - throughput: 32 events in flight, each counted from its POST until step 5
//     has it, and the processor time that was used meanwhile (/proc/PID/stat);
//   - the peak of resident memory (VmHWM), and of Sidestep the number of
//     allocations (its own runtime's count, embedded store included).
//
// Contenders of ingress: 64 clients post 1 KiB events to a channel whose only
// step hangs. The yardstick is JetStream without HTTP: 64 goroutines that
// publish asynchronously on one connection and wait for their acks, once in the
// server's own process (the least there is: one process, no socket), once from
// this process over loopback (as many processes and sockets as an ingress has).
// Since HTTP has its price whatever is behind it, two more are measured with
// the same generator: a server that answers 202 and does nothing else, and one
// that publishes to raw JetStream first.
//
// What makes it fair: one steps' process, one generator, one payload, one
// machine, no contender with settings of the Go runtime that the others lack
// (GOMAXPROCS, GOGC and the like are taken out of the environment; a program
// may set them itself, as it would in production). Every step checks what it
// gets, and every event must arrive once, or the measurement does not count.
// Ratios divide what was measured in the same round.
//
// What to keep in mind: generator, contender and steps share the machine's
// processors. A contender that needs little leaves more to the other two, so
// throughput says what the whole costs, not what one process can do. Processor
// time that others used meanwhile is printed; where it is much, the processor
// time per sequence is the number that suffers least.
//
// Goroutines: those of the generator (see its package), of signal.NotifyContext
// and of os/exec; profile starts one that fetches, which ends with the child at the
// latest. Files are
// under a temporary folder that is removed at the end; children are killed one
// by one, and die with this process whatever happens to it.
package main
