package channel

import (
	"fmt"
	"slices"
	"sync/atomic"
)

// maxSteps bounds a chain: at most so many subscriptions between two durable
// points.
const maxSteps = 64

// View is a Table as the Dispatcher works from it, indexed, with the chains
// already found. Every publish and every chain holds the View that it began
// with; Dispatcher.Observed is the epoch of the oldest one held.
type View struct {
	epoch  uint64
	byHost map[string]*Channel
	byName map[name]*Channel
	steps  map[string]*step // by Subscription.UID

	// holders counts those who work from this View. It can rise for an
	// instant on a View that is no longer current (see Dispatcher.Hold);
	// such a holder lets go without having looked at it.
	holders atomic.Int64
}

type name struct{ namespace, name string }

// step is a subscription with what the engine asks of the table around it.
type step struct {
	*Subscription
	channel *Channel
	// reply and deadLetter are the channels that Reply and DeadLetter
	// name, if they are in this table.
	reply, deadLetter *Channel
	// next is the step that a reply may be handed to without being stored
	// in between, as far as the table alone decides; nil: never. remote:
	// also if it is in another pod.
	next   *step
	remote bool
	// chain begins with this step; nil if there is nobody to call.
	chain *chain
}

// chain is a Chain with what the engine asks of its steps.
type chain struct {
	Chain
	steps []*step
}

// replyOwner is the channel for whose record a large answer is stored: the one it
// goes to, or where it goes elsewhere, the step's own.
func (s *step) replyOwner() string {
	if s.reply != nil {
		return s.reply.log
	}
	return s.channel.log
}

// newView indexes t. It refuses a table in which two objects claim one name:
// whose events go where would depend on the order of a map.
func newView(epoch uint64, t *Table) (*View, error) {
	v := &View{
		epoch:  epoch,
		byHost: make(map[string]*Channel),
		byName: make(map[name]*Channel, len(t.Channels)),
		steps:  make(map[string]*step),
	}
	for _, c := range t.Channels {
		if err := v.addChannel(c); err != nil {
			return nil, err
		}
	}
	for _, s := range v.steps {
		if s.Reply != nil {
			s.reply = v.byLog(s.Reply.Channel)
		}
		if s.DeadLetter != nil {
			s.deadLetter = v.byLog(s.DeadLetter.Channel)
		}
	}
	for _, s := range v.steps {
		s.next = v.successor(s)
		s.remote = s.next != nil && s.reply.ShortCircuit == Always
	}
	for _, s := range v.steps {
		s.chain = newChain(s)
	}
	return v, nil
}

func (v *View) addChannel(c *Channel) error {
	key := name{c.Namespace, c.Name}
	if v.byName[key] != nil {
		return fmt.Errorf("channel %s/%s is in the table twice", c.Namespace, c.Name)
	}
	if c.log == "" {
		c.log = c.Log().Name
	}
	v.byName[key] = c
	for _, h := range c.Hosts {
		if other := v.byHost[h]; other != nil {
			return fmt.Errorf("host %s is claimed by channels %s and %s", h, other.log, c.log)
		}
		v.byHost[h] = c
	}
	for _, s := range c.Subscriptions {
		if s.UID == "" {
			return fmt.Errorf("subscription %s/%s of channel %s has no UID", s.Namespace, s.Name, c.log)
		}
		if v.steps[s.UID] != nil {
			return fmt.Errorf("subscription UID %s is in the table twice", s.UID)
		}
		v.steps[s.UID] = &step{Subscription: s, channel: c}
	}
	return nil
}

// byLog finds a channel by "namespace/name".
func (v *View) byLog(log string) *Channel {
	for i := range len(log) {
		if log[i] == '/' {
			return v.byName[name{log[:i], log[i+1:]}]
		}
	}
	return nil
}

// successor applies what the table alone can say of DESIGN's rule "when a hop
// may skip the store": exactly one subscription on the next channel, which is
// not PerKey and allows it. The rest depends on the moment: see chain.next.
func (v *View) successor(s *step) *step {
	c := s.reply
	if c == nil || c.Ordered || c.ShortCircuit == Never || len(c.Subscriptions) != 1 {
		return nil
	}
	return v.steps[c.Subscriptions[0].UID]
}

// newChain follows the steps from s on for as long as the table alone allows.
func newChain(s *step) *chain {
	c := new(chain)
	for ; s != nil && s.Subscriber != nil && len(c.steps) < maxSteps && !slices.Contains(c.steps, s); s = s.next {
		c.steps = append(c.steps, s)
		c.Steps = append(c.Steps, s.Subscription)
	}
	if len(c.steps) == 0 {
		return nil
	}
	return c
}

// ByHost finds the channel that ingress knows by the full host name, nil if
// there is none or it takes no more events.
func (v *View) ByHost(host string) *Channel { return open(v.byHost[host]) }

// ByName finds the channel namespace/name, nil if there is none or it takes no
// more events.
func (v *View) ByName(namespace, channel string) *Channel {
	return open(v.byName[name{namespace, channel}])
}

func open(c *Channel) *Channel {
	if c == nil || c.Draining {
		return nil
	}
	return c
}

// Release lets go of the View; exactly one for each Hold.
func (v *View) Release() { v.holders.Add(-1) }

// Epoch numbers the table: 1 for the first that was applied.
func (v *View) Epoch() uint64 { return v.epoch }
