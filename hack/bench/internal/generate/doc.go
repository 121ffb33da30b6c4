// Package generate posts events to a contender's ingress.
//
//	Sequential   one event at a time: posted when the one before has both been
//	             answered and reached the last step
//	Closed       a fixed number in flight, counted from the POST until the
//	             arrival at the last step
//	Accept       a fixed number of clients, each posting its next event when
//	             its last was answered
//
//	[ workers ] --POST--> ingress ... last step --> arrivals --> [ reader ] --+
//	     ^                                                                    |
//	     +------------------------------ token ------------------------------+
//
// It posts with fasthttp's client, so that it takes as little as possible of
// the processors that it shares with what it measures.
//
// Goroutines: NewGenerator starts a reader of arrivals, which ends with the
// steps' process; Closed and Accept start workers and await them.
package generate
