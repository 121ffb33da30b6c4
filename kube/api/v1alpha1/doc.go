// Package v1alpha1 is the API group messaging.sidestep.dev/v1alpha1: the kind
// SidestepChannel, as users write it and as Knative's controllers read it.
//
//	user, Sequence, Channel ----> spec.delivery, ordering, shortCircuit
//	subscription controller ----> spec.subscribers --+
//	                                                 v
//	                              our controller: logs, groups, Service
//	                                                 |
//	status: address, subscribers, conditions <-------+
//	        backend, positions ------------> dispatchers: the table
//
// The CRD is config/100-sidestepchannel.yaml; a test holds the two together.
//
// +kubebuilder:object:generate=true
// +groupName=messaging.sidestep.dev
package v1alpha1

//go:generate go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.20.1 object paths=.
