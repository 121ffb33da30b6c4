// Package backend is the seam between the engine and the brokers: what a
// durable log must do. It imports the standard library only.
//
//	         EnsureLog, EnsureGroup                    Lag
//	                  |                                 ^
//	                  v                                 |
//	Publish --> [ log: r1 r2 r3 r4 r5 ... ] --> group A: cursor --> member A1 --> Receive ... Ack
//	  nil =            |                    |                   \-> member A2 --> Receive ... Ack
//	durable            |                    \-> group B: cursor --> member B1 --> Receive ... Ack
//	                   |
//	             Seal: no more
//
// A record stays until every group that existed when it was stored has acked
// it. There is no Nack: retries belong to the caller, who keeps the delivery
// for as long as it wishes. Heartbeats that keep a slow delivery from coming
// back (JetStream), and the commit of a contiguous prefix (Kafka), live inside
// the implementations.
//
// Dedup only saves work; correctness never depends on it.
//
// Package backendtest proves an implementation against this contract; package
// membackend is its executable form.
package backend
