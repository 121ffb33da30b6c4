// Package rollcall is how the controller learns what the dispatchers know: a
// subscription is ready only when every replica works from a table that has it,
// and nothing from an older one any more.
//
//	controller                          dispatcher
//	   |  POST /rollcall                    |
//	   |  {channels: [ns/a, ns/b]}   -----> | Roll.Applied(epoch, entries)
//	   |                                    |   after each Dispatcher.Apply
//	   |  Answer{epoch, observed,    <----- |
//	   |    channels{ns/a: ...}}            |
//	   v
//	Answer.Has, Answer.Without
//
// A replica is asked only while something is unready. It knows no Kubernetes:
// what a channel and a subscription are called is all that is exchanged.
//
// Goroutines: none.
package rollcall
