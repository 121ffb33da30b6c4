// Package sequence knows what Knative makes of a Sequence, a Parallel and a
// Channel: which channels and Subscriptions, under which names, wired how. It
// is pure: it reads no file, no YAML and no clock, and imports the standard
// library only.
//
//	Sequence pics                 SidestepChannel           Subscription
//	  steps:                        (= the address)
//	  - resize   ----Expand--->  pics-kn-sequence-0  <---  pics-kn-sequence-0: resize ---+
//	                                                                                     | reply
//	  - caption                  pics-kn-sequence-1  <---  pics-kn-sequence-1: caption <-+
//	                                                                     |
//	  reply: album                                          album <------+ reply
//
//	Parallel fork
//	  branches:              +--> fork-kn-parallel-filter-0: filter 0 --> fork-kn-parallel-0
//	  - filter, subscriber   |                                                  |
//	  - ...         fork-kn-parallel                            fork-kn-parallel-0: subscriber 0 --> reply
//	                         |
//	                         +--> fork-kn-parallel-filter-1: ...
//
// Names and wiring are those of the reconcilers of knative.dev/eventing
// v0.50.0; hack/conformance runs the two side by side.
//
// [Deliveries] merges a Subscription's delivery spec with its channel's, as
// Knative's subscription controller does. [NewGraph] answers which step
// follows which without a choice, and [Graph.Chain] strings them together.
//
// Nothing here starts a goroutine. All values may be read by any number of
// goroutines; nothing that is given to this package is changed by it, and what
// it returns shares the pointers that it was given.
package sequence
