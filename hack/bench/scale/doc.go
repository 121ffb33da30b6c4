// Command scale measures what many channels cost dispatchers while they are idle,
// and how fast these start with them.
//
//	go -C hack/bench run ./scale [-backend embedded|nats|kafka] [-replicas 1,3] [-channels 5000]
//	                             [-dispatcher PATH] [-write FILE]
//
//	              Sequences of five steps (YAML)
//	                          |
//	                          v
//	scale --- POST ---> dispatcher standalone, 1 or 3 --- POST --> the step, in scale
//	  |                       | each on a --data of its own, the key in common
//	  |                       v
//	  |                   [broker]  nats: in scale; kafka: a process
//	  +-- /readyz, /proc/PID, /debug/pprof
//
// It starts the dispatchers twice, all at once. The first start makes all logs and
// groups; the second finds them, which is what a restart costs. Each time it measures
// the time until /readyz says ok, and then, with nothing to do: goroutines, resident
// memory once that has come to rest, and processor time over 30 s. An event to
// every channel proves that all of them work. Of several dispatchers the dearest counts.
// At last one of several is killed, and every channel gets an event at once.
//
// An external broker is first used by a dispatcher with few channels: those are
// the connections that 5,000 are to need no more of.
//
// Goroutines: the step's HTTP server; one that waits for each child; one that
// reads its stdout. All end with run.
package main
