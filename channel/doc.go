// Package channel is the domain and the engine: the Table of channels and
// subscriptions, and the Dispatcher that moves events by it.
//
//	 ingress                                        one View of the Table, held
//	    |  Publish                                  by each publish and each leg
//	    v
//	[ log of channel 0 ] --> runner --> task --- ToStep ---> step 0
//	    ^                   (window,      |                     | answer
//	    |                    budget,      |<--------------------+
//	    |                    key order)   |
//	    |                                 |  the hop may skip the store:
//	    |                                 +--- ToStep ---> step 1 (short-circuited)
//	    |                                 |                     | answer
//	    |                                 |<--------------------+
//	    |                                 |  steps that share a pod run there:
//	    |                                 +--- Pods.Run ---> steps 2, 3, 4
//	    |                                 |                     | the last answer, or
//	    |                                 |<--------------------+ what came to k, and why
//	    |                                 |  it may not, or this was the last:
//	    |                                 +--- ToReply --> [ log of channel 2 ], or a URL
//	    |                                 |  step k failed in mid-chain:
//	    |                                 +--- ToSpill --> [ log of channel k ]
//	    |                                 |  failed for good at the head:
//	    |                                 +--- ToDeadLetter --> sink
//	    |                                 |
//	    +----- Ack: settled <-------------+  the outcome is safe
//
// An event is stored once, where it enters. Its record is settled only when the
// chain of steps it started has reached the next durable point; what happens in
// between needs no store, since the record comes back if the process dies. The
// short circuit has no error handling of its own: trouble at step k stores the
// event entering k in k's channel, with what was tried, and the one piece of
// code that retries, orders and dead-letters goes on from there.
//
// # Goroutines
//
// For each subscription that has something to receive one that fetches
// (runner.run; started by Apply and by backend.Rester, ends when there is nothing
// more), and one for each record in flight (task.run, at most Config.Window;
// awaited by the runner). On a backend whose subscriptions do not rest the former
// stays until the subscription leaves the table. Close awaits all.
//
// # Tables
//
// Apply replaces the whole table. Who works from a table holds its View, for a
// publish or for one attempt of a chain; Observed is the oldest one held. A
// record that waits, for a retry or because it is parked, holds none.
package channel
