// Package manifest reads the YAML that would be applied to a cluster and makes
// a [channel.Table] of it, for the standalone dispatcher: what runs here from
// files runs on a cluster from the same files.
//
//	pics.yaml ----+
//	              |      documents          objects            Set
//	album.yaml ---+--> [ YAML nodes ] --> [ decode ] --> [ link: every   ] --Table--> channel.Table
//	              |      with lines        check every     reference is              + addresses
//	config.json --+                        field           resolved
//	                          |               |                |
//	                          +---------------+----------------+--> Problems: file:line: field: what
//
// The kinds it knows are flows.knative.dev/v1 Sequence and Parallel,
// messaging.knative.dev/v1 Channel and Subscription,
// messaging.sidestep.dev/v1alpha1 SidestepChannel, v1 Service, and the v1
// ConfigMap config-sidestep. Fields are those of the real schemas, and their
// rules those of Knative's webhook (knative.dev/eventing v0.50.0); status is
// passed over. Expansion and names are package sequence's.
//
// A reference to a v1 Service needs an address that this process can call. The
// Service declares it with an annotation, which a cluster does not look at:
//
//	apiVersion: v1
//	kind: Service
//	metadata:
//	  name: caption
//	  annotations:
//	    sidestep.dev/address: http://127.0.0.1:9102
//
// A pod of this machine is a sidestep.dev/v1alpha1 LocalPod: the URL of its sidecar,
// and the ports of the Services whose steps are beside it. Services opt out with the
// annotation sidestep.dev/colocate: "false".
//
// Load reports everything that is wrong, and decides nothing by halves: a Set
// is only returned if all files are right. Nothing here starts a goroutine. A
// Set may be used by any number of goroutines.
package manifest
