package channel

import (
	"time"

	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
)

// Observer is told what happens to events, for metrics and traces. It is
// called on the hot path from many goroutines at once: it must be quick, must
// not block, and must not keep what the pointers refer to.
type Observer interface {
	// Hop is called after each attempt to hand an event to a step, a reply
	// address or a dead letter sink outside, and after each publish in
	// process to a channel of ours.
	Hop(h *Hop)
	// End is called when a record was settled, or given back unsettled.
	End(e *End)
}

// Leg is what an attempt was for.
type Leg uint8

// The legs of an event's way.
const (
	ToStep Leg = iota
	ToReply
	ToDeadLetter
	ToSpill
	// FromOutside is a publish of what ingress took. Only a Span is told of it, with
	// a Hop that has no Subscription.
	FromOutside
)

func (l Leg) String() string {
	return [...]string{"step", "reply", "dead-letter", "spill", "ingress"}[l]
}

// Travel is how an event came to the place where the attempt was made.
type Travel uint8

// The ways to travel.
const (
	Stored         Travel = iota // read from the log
	ShortCircuited               // straight from the step before
	InPod                        // from the step before in the same pod
)

func (t Travel) String() string {
	return [...]string{"stored", "short-circuited", "colocated"}[t]
}

// Hop is one attempt.
type Hop struct {
	Leg          Leg
	Travel       Travel
	Channel      *Channel
	Subscription *Subscription
	Event        *event.Event
	// Reference: the event's data was not sent, but a link to it.
	Reference bool
	// Stores: the event is published to a channel of ours, and not posted.
	Stores bool
	Start  time.Time
	Took   time.Duration
	// Attempt counts from 1, those made elsewhere included.
	Attempt int
	// Dest is the URL without its password, or "namespace/name" for a channel of ours.
	Dest   string
	Result *egress.Result
	// Pod ran the step, "" if it was called by its address. The Event is then the
	// one that entered the pod.
	Pod string
	// Spilled is why the event had been given back from the middle of a chain, to
	// go on here.
	Spilled SpillReason
}

// Ending is what became of a record.
type Ending uint8

// The endings.
const (
	Completed    Ending = iota // the last step had nothing more to say
	Replied                    // the reply is at the next durable point
	DeadLettered               // the dead letter sink took it
	Dropped                    // failed for good, and no dead letter sink
	Spilled                    // stored in the middle of a chain
	Poisoned                   // not an event; nothing can be done with it
	GivenBack                  // not settled: it comes back
)

func (e Ending) String() string {
	return [...]string{
		"completed", "replied", "dead-lettered", "dropped", "spilled", "poisoned", "given-back",
	}[e]
}

// End is the end of a record's time with this process.
type End struct {
	Ending Ending
	// Log and UID are the channel, and the subscription whose group
	// delivered the record.
	Log, UID string
	// Steps were run; Took the time since the record was received.
	Steps int
	Took  time.Duration
	// Risk is the time since the chain began: the work that a crash would have
	// repeated. Again is how many of the steps may have been run before, as
	// a process had died.
	Risk  time.Duration
	Again int
}

type noObserver struct{}

func (noObserver) Hop(*Hop) {}
func (noObserver) End(*End) {}
