package channel

import (
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/egress"
)

// ShortCircuit says when a hop to the next step may skip the store.
type ShortCircuit uint8

// The values of spec.shortCircuit.
const (
	// Colocated: only to a step in the same pod. The default.
	Colocated ShortCircuit = iota
	// Always: also to remote steps, directly from the dispatcher.
	Always
	// Never: every hop is stored.
	Never
)

// Table is the immutable snapshot of all channels and subscriptions that a
// Dispatcher works from. Whoever builds it hands it over with Dispatcher.Apply
// and does not change it, nor what it points to, afterwards.
type Table struct {
	Channels []*Channel
}

// Channel is a durable log with an address.
type Channel struct {
	Namespace, Name string
	// Hosts are the full host names (no port, lower case) under which
	// ingress knows the channel, beside the path /Namespace/Name.
	Hosts []string
	// URL is the channel's address, as it appears in knativeerrordest.
	URL string
	// Ordered: spec.ordering is PerKey.
	Ordered      bool
	ShortCircuit ShortCircuit
	// Draining: the channel was removed. It takes nothing from outside, and
	// its subscriptions run on until their groups are empty.
	Draining bool
	// Shared: the log may have more groups than Subscriptions tells. It must
	// be set, in a table that was applied, before a group is made for a
	// Subscription that the table does not have yet, and for as long as one lives on
	// that it no longer has: stored payloads are deleted early only where one group alone
	// gets the records, or none does.
	Shared        bool
	Subscriptions []*Subscription

	log string // Log().Name, made once
}

// Log is the channel's log as a backend knows it.
func (c *Channel) Log() backend.Log {
	return backend.Log{Name: c.Namespace + "/" + c.Name, Ordered: c.Ordered}
}

// Subscription is a cursor in a channel's log: where its events go, and how.
type Subscription struct {
	// UID names the group in the log, and the Subscription for ever.
	UID string
	// Namespace and Name are the Subscription object's.
	Namespace, Name string
	// Subscriber is the step; nil sends every event straight to Reply.
	Subscriber *egress.Target
	// Reply and DeadLetter are nil when there is none.
	Reply, DeadLetter *Destination
	Policy            egress.Policy
}

// Destination is where a reply or a dead letter goes: a channel of this
// table, reached in process, or else a Target.
type Destination struct {
	// Channel is "namespace/name", or "" for a Target.
	Channel string
	Target  egress.Target
}
