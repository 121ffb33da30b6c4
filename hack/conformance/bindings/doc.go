// Package bindings holds our records against the CloudEvents SDK for Go: what we
// store its clients read, and what they publish straight to a log's subject is
// delivered.
//
//	Event --event.ToRecord--> natsbackend --> JetStream --> SDK's client --> the same event?
//	SDK's client --> JetStream --> natsbackend --event.FromRecord--> the same Event?
package bindings
