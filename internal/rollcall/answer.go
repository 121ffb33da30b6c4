package rollcall

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
}

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
