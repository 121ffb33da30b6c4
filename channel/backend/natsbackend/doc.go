// Package natsbackend keeps logs on JetStream: on servers elsewhere, or on one
// embedded in this process. How logs map to streams, and why, is in
// docs/design/jetstream-mapping.md.
//
//	Publish --> binding: headers + payload --> publisher --> client library --> wire --> server
//	                                              ^ confirmation, by its inbox             |
//	Receive <-- member <-- hand <-- deliveries <------------ client library <-- wire <-----+
//	              |  window, pulls, held records, +WPI                                     ^
//	              +--> Ack, -NAK, requests for more ---------------------------------------+
//	EnsureLog, Seal, ... --> catalog (which logs there are, leases), shard (a stream's subjects)
//
// A record is a message of the CloudEvents NATS protocol binding, or packed where
// that cannot express it. wire lets header blocks pass the client library as
// payload; dialer makes its connections, with files for secrets and certificates
// that are read anew each time.
//
// Goroutines, each awaited by Close: hand gives messages to members; tick looks
// after what members hold and asked for; anchor leaves anchors in streams that are
// used; an order.run for each member of an ordered log; short ones that change a
// stream's subjects, wait for the place of a large record, or look whether a
// consumer is gone. The client library has its own, which end with its connection.
package natsbackend
