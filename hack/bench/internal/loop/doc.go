// Package loop holds the bare loops: what a forwarder must cost that posts an
// event to step 1, its answer to step 2, and so on, with one HTTP library and
// nothing else. An event that was answered 202 is lost if the process dies.
//
//	POST / --202-->  [ goroutine per event: POST step 1 … POST step 5 ]
//
// NetHTTP is made of net/http's server and client, FastHTTP of fasthttp's.
// Accept answers 202 and does nothing: what HTTP itself costs at ingress.
//
// Goroutines: those of the servers, and one per event while it runs through
// its steps; they are not awaited, since the process is killed when its
// measurement ends.
package loop
