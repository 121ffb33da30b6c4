// Package inject puts sidecars into pods whose template asks for one, and has them
// trust the dispatchers.
//
//	Pod, labelled sidestep.dev/inject: "true"
//	        |
//	        v
//	API server --> Webhook --> Inject (pure): the container, its volumes
//	                  |
//	                  '--> Keeper: ConfigMap sidestep-trust in the pod's namespace
//
//	Secret sidestep-slip-key ------> Keeper --public halves--> each ConfigMap
//	Secret sidestep-injector-tls --> Keeper --certificate----> the webhook's server
//	                                        --caBundle-------> MutatingWebhookConfiguration
//
// # Who sees what
//
// The private slip key is in one Secret in Knative's own namespace; dispatchers mount
// it. A pod gets the public halves, by a ConfigMap in its own namespace, since a pod
// can mount no other. Who may edit that ConfigMap may have the sidecars of that
// namespace call its own steps, which they can do anyhow; it is put right again at
// once. Somebody who writes the sidecar into a pod by hand makes an empty ConfigMap of
// that name, and it is filled.
//
// # When something is wrong
//
// An annotation that cannot be used, or a pod that cannot have a sidecar, is refused:
// its author has asked for one, and is told at the first roll-out, when the pods of
// before are still there. A warning would go to the ReplicaSet controller, which shows
// it to nobody. What is our fault keeps no pod from being made: the API server passes
// by a webhook that does not answer, a pod without its ConfigMap starts, and its
// sidecar waits for keys.
//
// The sidecar has no readiness probe and no startup probe: if it has a fault, its steps
// are called by their addresses, and must not be taken out of service for it.
//
// # Goroutines
//
// Keeper.Start. Each replica of the controller runs one, since each serves the
// webhook; what they write is the same.
package inject
