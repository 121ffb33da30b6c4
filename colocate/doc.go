// Package colocate runs the steps of a chain that share a pod in one exchange
// with the sidecar of that pod (DESIGN 7). It is what the engine knows as
// channel.Pods.
//
//	Map (documents, EndpointSlices)            channel.Chain
//	        |                                        | Run
//	        v  handshakes                            v
//	pods that can be used ----------> plan: the longest run of steps that
//	                                  pods hold, and a balance.Set of these
//	                                                 |
//	                                   slip, signed  |  Pick / HandOff
//	                                                 v
//	                         POST --------------> sidecar --> step --> step
//	                              <-------------- outcome, event, load
//	                                                 |
//	 channel.PodResult: completed | spilled at k | lost | not run (go plain)
//
// Who shares a pod with whom is an input, the [Map]. A pod is used once its
// sidecar has told who it is, and no longer when there is reason to doubt: until
// then the engine delivers to the steps' own addresses. One step by itself does
// not go through a sidecar, which would be one message more for nothing, unless a
// busy pod gave its event back.
//
// # Goroutines
//
// One for each pod while its handshake is under way or due again; none for a
// pod that is in use. Close ends and awaits them.
package colocate
