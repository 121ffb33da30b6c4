// Package natsstore keeps payloads in a JetStream object store, for
// installations that have a NATS server and nothing else.
//
//	claimcheck.Store -- Put --> chunks of 256 KiB, then the entry that makes them an object
//	                 -- Open -> entry, then chunk by chunk: the next message of the object's subject
//	                 -- List -> entries; then chunks that have none
//
// A range begins with the kth chunk. It is at least k messages after the first
// one in the stream, and a consumer made there tells how many chunks follow:
// the few that came before the wanted one are skipped.
//
// List asks for the entries of all objects, whatever the prefix is: JetStream
// knows them by their encoded names only.
//
// Goroutines: those of the NATS client, which end with the call they serve. The
// connection is the caller's.
package natsstore
