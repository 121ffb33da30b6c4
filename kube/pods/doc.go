// Package pods finds out who shares a pod with whom, so that chains of steps can
// run there (DESIGN 7). Nothing is configured for it: it is what Services select.
//
//	Services ----------+
//	EndpointSlices ----+--> informers --> Watcher --> Find (pure) --> Found
//	Pods --------------+      |                                         |
//	                          | what is not needed is dropped           v
//	                          '-- on its way into memory     colocate.Map, and who
//	                                                         wants payloads by reference
//
// # What counts
//
// The way of a subscriber's URL is followed as a cluster follows it: the host names
// a Service, its EndpointSlices name pods and the port that each listens at. A pod
// is taken if it has the sidecar, and if everybody agrees that the address is its
// own. Whatever is in doubt is left out: the steps are then called by the Service's
// address, as they are without Sidestep.
//
//   - The Service has a selector and is no ExternalName, and has not opted out with
//     the annotation sidestep.dev/colocate: "false". Slices that were not made by
//     Kubernetes for its selector do not count.
//   - The endpoint is ready, is not terminating, and refers to a Pod of the slice's
//     own namespace with this UID.
//   - That Pod is running, ready and not terminating, is not on the host's network,
//     and has the address.
//   - It has the sidecar: a native one, that is an init container with restartPolicy
//     Always, named [Container], with a port named [PortName] or a single one.
//   - It is not a Knative revision's: its scale and its concurrency count what is
//     sent to its address.
//
// # Goroutines
//
// Watcher.Run, and the informers of the Cache it is given.
package pods
