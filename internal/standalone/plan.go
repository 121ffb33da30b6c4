package standalone

import (
	"fmt"
	"slices"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
)

// plan joins the table that the files describe with what was known before: what
// is no longer described is kept, draining, until its deadline. It changes
// neither argument but state's deadlines.
func (s *state) plan(want *channel.Table, now time.Time, drain time.Duration) (*channel.Table, error) {
	if err := s.checkMoves(want); err != nil {
		return nil, err
	}
	next := new(channel.Table)
	wanted := map[string]bool{}
	for _, c := range want.Channels {
		log := c.Log().Name
		wanted[log] = true
		delete(s.Deadlines, log)
		old := s.channel(log)
		if old != nil && old.Ordered != c.Ordered {
			return nil, fmt.Errorf("channel %s: spec.ordering cannot change while the channel exists; "+
				"remove the channel, wait until it is drained, and add it again", log)
		}
		next.Channels = append(next.Channels, s.joined(c, old, now, drain))
	}
	for _, old := range s.Table.Channels {
		log := old.Log().Name
		if wanted[log] {
			continue
		}
		s.setDeadline(log, now, drain)
		gone := clone(old)
		gone.Draining = true
		next.Channels = append(next.Channels, gone)
	}
	return next, nil
}

// sharing is last, the table being worked from, with those channels Shared that
// have one more group in next; nil if there are none. See channel.Channel.Shared.
func sharing(last, next *channel.Table) *channel.Table {
	wanted := make(map[string]*channel.Channel, len(next.Channels))
	for _, c := range next.Channels {
		wanted[c.Log().Name] = c
	}
	out, any := new(channel.Table), false
	for _, old := range last.Channels {
		c := wanted[old.Log().Name]
		if c != nil && slices.ContainsFunc(c.Subscriptions, func(s *channel.Subscription) bool { return !has(old, s.UID) }) {
			old, any = clone(old), true
			old.Shared = true
		}
		out.Channels = append(out.Channels, old)
	}
	if !any {
		return nil
	}
	return out
}

// checkMoves refuses a subscription that would leave its channel for another: it
// is a position in one log. Knative refuses it, too.
func (s *state) checkMoves(want *channel.Table) error {
	at := make(map[string]string) // channel by UID
	for _, c := range want.Channels {
		for _, sub := range c.Subscriptions {
			at[sub.UID] = c.Log().Name
		}
	}
	for _, old := range s.Table.Channels {
		log := old.Log().Name
		for _, sub := range old.Subscriptions {
			if now, wanted := at[sub.UID]; wanted && now != log {
				return fmt.Errorf("subscription %s/%s: spec.channel cannot change, from %s to %s, while the subscription exists; "+
					"remove the subscription, wait until it is drained, and add it again", sub.Namespace, sub.Name, log, now)
			}
		}
	}
	return nil
}

// joined is c with the subscriptions that old had beside its own, draining.
func (s *state) joined(c, old *channel.Channel, now time.Time, drain time.Duration) *channel.Channel {
	c = clone(c)
	for _, sub := range c.Subscriptions {
		delete(s.Deadlines, sub.UID)
	}
	if old == nil {
		return c
	}
	for _, sub := range old.Subscriptions {
		if !has(c, sub.UID) {
			s.setDeadline(sub.UID, now, drain)
			c.Subscriptions = append(c.Subscriptions, sub)
		}
	}
	return c
}

func (s *state) setDeadline(key string, now time.Time, drain time.Duration) {
	if _, set := s.Deadlines[key]; !set {
		s.Deadlines[key] = now.Add(drain)
	}
}

func (s *state) channel(log string) *channel.Channel {
	for _, c := range s.Table.Channels {
		if c.Log().Name == log {
			return c
		}
	}
	return nil
}

// removal is something that drains: a whole channel, or one subscription of a
// channel that stays.
type removal struct {
	channel *channel.Channel
	sub     *channel.Subscription // nil: the whole channel
	until   time.Time
}

func (r removal) String() string {
	if r.sub == nil {
		return "channel " + r.channel.Log().Name
	}
	return "subscription " + r.sub.Namespace + "/" + r.sub.Name
}

// key is r's in state.Deadlines.
func (r removal) key() string {
	if r.sub == nil {
		return r.channel.Log().Name
	}
	return r.sub.UID
}

// groups whose records have yet to be settled before r can be done.
func (r removal) groups() []*channel.Subscription {
	if r.sub != nil {
		return []*channel.Subscription{r.sub}
	}
	return r.channel.Subscriptions
}

// removals lists what drains.
func (s *state) removals() []removal {
	var out []removal
	for _, c := range s.Table.Channels {
		if until, draining := s.Deadlines[c.Log().Name]; draining {
			out = append(out, removal{channel: c, until: until})
			continue
		}
		for _, sub := range c.Subscriptions {
			if until, draining := s.Deadlines[sub.UID]; draining {
				out = append(out, removal{channel: c, sub: sub, until: until})
			}
		}
	}
	return out
}

// without is the table after r is done.
func (s *state) without(r removal) *channel.Table {
	next := new(channel.Table)
	for _, c := range s.Table.Channels {
		if c != r.channel {
			next.Channels = append(next.Channels, c)
			continue
		}
		if r.sub != nil {
			c = clone(c)
			c.Subscriptions = slices.DeleteFunc(c.Subscriptions, func(sub *channel.Subscription) bool {
				return sub == r.sub
			})
			next.Channels = append(next.Channels, c)
		}
	}
	return next
}

// fed tells whether a step in the table hands its answers, or its dead letters,
// to the channel that r is about. As long as there is one the channel is not at
// its end, however empty it is: a flow is drained from its beginning. (Flows in
// a circle are removed when their deadline comes.)
func (s *state) fed(r removal) bool {
	if r.sub != nil {
		return false
	}
	log := r.channel.Log().Name
	leads := func(d *channel.Destination) bool { return d != nil && d.Channel == log }
	return slices.ContainsFunc(s.Table.Channels, func(c *channel.Channel) bool {
		return c != r.channel && slices.ContainsFunc(c.Subscriptions, func(sub *channel.Subscription) bool {
			return leads(sub.Reply) || leads(sub.DeadLetter)
		})
	})
}

// done forgets r, which next is without.
func (s *state) done(r removal, next *channel.Table) {
	delete(s.Deadlines, r.key())
	for _, sub := range r.groups() {
		// A draining subscription of a channel that drains as a whole, too.
		delete(s.Deadlines, sub.UID)
		s.forget(sub.UID)
	}
	if r.sub == nil {
		delete(s.Places, r.channel.Log().Name)
	}
	s.Table = *next
}

// clone copies c and its list of subscriptions: a table that was applied is
// never changed.
func clone(c *channel.Channel) *channel.Channel {
	d := *c
	d.Subscriptions = slices.Clone(c.Subscriptions)
	return &d
}

func has(c *channel.Channel, uid string) bool {
	return slices.ContainsFunc(c.Subscriptions, func(s *channel.Subscription) bool { return s.UID == uid })
}
