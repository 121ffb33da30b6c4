// Package broker opens the backends that config-sidestep describes, for all
// programs that do: a standalone process, and those of a cluster.
//
//	manifest.Config --> Specs --> Pool --+--> NATS ---> natsbackend --+
//	                     |               +--> Kafka --> kafkabackend -+--> members of a
//	                     |               '--> embedded: the caller's -'    swapbackend.Backend
//	                     '--> Homes: where which log belongs
//
// A Spec is kept for as long as a log is on its backend, also when the configuration
// has gone on.
package broker
