// Command scale measures what many channels cost one standalone process while
// they are idle, and how fast it starts with them.
//
//	go -C hack/bench run ./scale [-channels 5000] [-dispatcher PATH] [-write FILE]
//
//	            N SidestepChannels, each with one Subscription (YAML)
//	                                 |
//	                                 v
//	scale --- POST, one each --> dispatcher standalone --- POST --> the step, in scale
//	  |                          on a fresh --data,
//	  |                          then again on the same
//	  +-- /readyz, /proc/PID, /debug/pprof
//
// It starts the dispatcher twice. The first start makes all logs and groups; the
// second finds them, which is what a restart costs. Each time it measures the
// time until /readyz says ok, and then, with nothing to do: goroutines, resident
// memory once that has come to rest, and processor time over 30 s. An event to
// every channel proves that all of them work.
//
// Goroutines: the step's HTTP server; one that waits for the child; one that
// reads its stdout. All end with run.
package main
