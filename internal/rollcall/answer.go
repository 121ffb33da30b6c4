package rollcall

import (
	"fmt"
	"slices"
)

// Path of the endpoint on a dispatcher's admin server.
const Path = "/rollcall"

// Bounds on what is exchanged: a call names so many channels at most, and an
// answer is so large at most.
const (
	MaxChannels    = 1000
	maxCallBytes   = 1 << 20
	maxAnswerBytes = 64 << 20
)

// Call asks after channels, by "namespace/name".
type Call struct {
	Channels []string `json:"channels"`
}

// Answer is what a replica knows.
type Answer struct {
	// Epoch is that of the current table, 0 before the first; Observed is the
	// oldest that anything in the replica still works from.
	Epoch    uint64 `json:"epoch"`
	Observed uint64 `json:"observed"`
	// Channels that were asked after and that are in the current table.
	Channels map[string]Channel `json:"channels"`
	// Backends that the replica wants to use, by their IDs: why it cannot, "" if it
	// does.
	Backends map[string]string `json:"backends,omitempty"`
	// Storing are the ids of the payload stores that it may write to.
	Storing []string `json:"storing,omitempty"`
}

// Place is where a log is: see swapbackend.Place.
type Place struct {
	Home   string   `json:"home"`
	Next   string   `json:"next,omitempty"`
	Former []string `json:"former,omitempty"`
}

// Equal tells whether both are the same.
func (p Place) Equal(q Place) bool {
	return p.Home == q.Home && p.Next == q.Next && slices.Equal(p.Former, q.Former)
}

// Moving tells whether a move is under way.
func (p Place) Moving() bool { return p.Next != "" || len(p.Former) > 0 }

// Channel as it is in a replica's table.
type Channel struct {
	// UID of the object: one of the same name made anew is another channel.
	UID string `json:"uid"`
	// Draining: it takes nothing from outside any more.
	Draining bool `json:"draining,omitempty"`
	// Changed is the first epoch of a table in which it was Draining, or not, and
	// had exactly these Subscriptions.
	Changed uint64 `json:"changed"`
	// Subscriptions by their UID.
	Subscriptions map[string]Subscription `json:"subscriptions"`
	// Shared: no payload is deleted early, see channel.Channel.
	Shared bool `json:"shared,omitempty"`
	// Place of the log, and whether the replica is there in full: it receives from all of
	// it, and nobody publishes by a former one.
	Place  Place `json:"place,omitzero"`
	Joined bool  `json:"joined,omitempty"`
}

// Subscription as it is in a replica's table.
type Subscription struct {
	// Generation of the object that the table was made from.
	Generation int64 `json:"generation"`
	// Error is why records cannot be received just now, "" if they can.
	Error string `json:"error,omitempty"`
}

// Knows tells whether the replica resolves the channel.
func (a *Answer) Knows(channel, uid string) bool {
	c, ok := a.Channels[channel]
	return ok && c.UID == uid
}

// Has tells whether the replica delivers to a subscription, of this generation
// or a later one, and whether nothing in it works any more from a table in which
// the channel had other subscriptions. why says what is missing, "" for nothing.
func (a *Answer) Has(channel, uid, subscription string, generation int64) (why string) {
	c, ok := a.Channels[channel]
	switch s, has := c.Subscriptions[subscription]; {
	case !ok || c.UID != uid:
		return "does not know the channel yet"
	case !has || s.Generation < generation:
		return "does not know the subscription yet"
	case a.Observed < c.Changed:
		return "has events under way that began before it was there"
	default:
		return s.Error
	}
}

// Closed tells whether the replica takes nothing from outside for the channel any
// more, and nothing is under way that it took before.
func (a *Answer) Closed(channel, uid string) bool {
	c, ok := a.Channels[channel]
	if !ok || c.UID != uid {
		return a.Observed == a.Epoch
	}
	return c.Draining && a.Observed >= c.Changed
}

// Without tells whether nothing in the replica works with the subscription, or
// with the channel if subscription is "", any more.
func (a *Answer) Without(channel, uid, subscription string) bool {
	c, ok := a.Channels[channel]
	if !ok || c.UID != uid {
		return a.Observed == a.Epoch
	}
	if _, has := c.Subscriptions[subscription]; has || subscription == "" {
		return false
	}
	return a.Observed >= c.Changed
}

// Shares tells whether no payload of the channel is deleted early any more: another
// group may be made.
func (a *Answer) Shares(channel, uid string) bool {
	c, ok := a.Channels[channel]
	return !ok || c.UID != uid || c.Shared
}

// At tells whether the replica is where a log's place says, in full. why says what is
// missing, "" for nothing.
func (a *Answer) At(channel, uid string, p Place) (why string) {
	c, ok := a.Channels[channel]
	switch {
	case !ok || c.UID != uid:
		return "" // it neither publishes nor receives
	case !c.Place.Equal(p):
		return a.cannot(p, "has yet to learn where the log is")
	case !c.Joined:
		return a.cannot(p, "has yet to join the log where it is to go")
	}
	return ""
}

// cannot is why a backend of a place cannot be used, or else otherwise.
func (a *Answer) cannot(p Place, otherwise string) string {
	for _, id := range append([]string{p.Home, p.Next}, p.Former...) {
		if err := a.Backends[id]; err != "" {
			return a.Uses(id)
		}
	}
	return otherwise
}

// Uses is why the replica cannot use a backend, "" if it does.
func (a *Answer) Uses(id string) (why string) {
	err, known := a.Backends[id]
	switch {
	case !known:
		return "has yet to open backend " + id
	case err != "":
		return fmt.Sprintf("cannot use backend %s: %s", id, err)
	}
	return ""
}

// Stores tells whether the replica may still write to a payload store.
func (a *Answer) Stores(id string) bool { return slices.Contains(a.Storing, id) }
