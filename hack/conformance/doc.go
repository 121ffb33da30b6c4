// Package conformance holds package sequence against the real thing: it runs
// the resource constructors, defaults and validation of knative.dev/eventing
// v0.50.0, and our own, on many generated objects, and compares what they
// make. It is a module of its own, so that Knative's dependencies stay out of
// the main one:
//
//	cd hack/conformance && go test ./...
//
//	generated v1.Sequence ---> Knative: SetDefaults, Validate, NewSubscription ... --+
//	        |                                                                        | equal?
//	        +---> sequence.Sequence ---> Expand -------------------------------------+
//
// It also holds the records of kafkabackend against the CloudEvents SDK's own
// Kafka client, in both directions, on a real broker.
package conformance
