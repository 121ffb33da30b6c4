// Package store is JetStream with nothing around it: a server embedded in this
// process with file storage, and the least that one would write on top of it.
//
//	Loop      POST / -> publish step.1 -> 202
//	          consume step.i -> POST step i -> publish its answer to step.i+1 -> ack
//	Ingress   POST / -> publish -> 202
//	Publish   64 goroutines: publish asynchronously, wait for the ack, again
//	Serve     the server alone, on loopback TCP
//
// Storage is as JetStream comes: files, synced every two minutes.
//
// Goroutines: the server's and the client's own; in Loop one per record that
// is being delivered, bounded by the window; in Publish one per client, which
// it awaits.
package store
