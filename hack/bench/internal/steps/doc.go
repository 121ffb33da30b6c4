// Package steps is the process that all contenders deliver to: five steps on
// one net/http server (the honest choice: it is what steps are written with),
// the same for every contender.
//
//	POST /1 … /5         a step: notes the time, checks the event, notes the
//	                     time again, answers 200 with an event of its own
//	POST /direct/1 … /5  the same, but it posts its event to the next step
//	                     itself, and answers 202 once that has answered
//	POST /hang           never answers while the process lives
//	GET  /hops?n=N       the times noted for the events with ids 0 … N-1
//	GET  /faults         what was not as it should be
//
//	contender --POST--> [ step 1 … 5 ] --first arrival at 5--> arrivals --> stdout
//
// A hop is the time from just before step i writes its answer until step i+1's
// handler is entered, so it contains the writing of an answer and the reading
// of a request's head by net/http's server: the same for all. Events' ids are
// decimal numbers; times are noted for those below Recorded.
//
// Goroutines: those of net/http's server, and one started by Serve that writes
// arrivals to stdout, as many at a time as have gathered; Serve awaits them.
package steps
