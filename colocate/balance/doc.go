// Package balance chooses the replica that gets a chain of steps, from what each
// answer told of the load of its pod.
//
//	            Pick(key)        Choice.Replica()
//	chain ----> [ Set ] -------> a pod ----------> exchange
//	              |  ^                                |
//	   policy, zone  |   Done(Outcome: result, Report, bytes)
//	   weights       '---------------------------------'
//	                      in flight, queue and service time of each step (Report)
//	                      round trip and rate of the way there      (link)
//	                      failures: left out for a while            (outlier)
//	                      503 at the door: left out for a moment    (saturated)
//
// A [Balancer] knows the pods of this process; a [Set] are those that hold the
// same steps. What is known of a pod is shared by its sets, while failures count
// for each set by itself: one step that is broken says nothing of the others.
//
// An event that was given back in the middle of a chain goes where it is likely
// to run soonest ([Set.HandOff]), and how long it may wait before that comes
// from the same knowledge ([Set.SpillAfter]).
//
// There is no goroutine in this package, and no I/O.
package balance
