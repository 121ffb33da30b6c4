package channel

import (
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
)

// task carries one record from its log to its outcome. It belongs to one
// goroutine, which advances it leg by leg:
//
//	         +--- retry ---+
//	         v             |
//	      ToStep ----------+--- failed for good ---> ToDeadLetter ---> settled
//	       |  ^  \                                     ^    |  ^
//	reply  |  |   \ failed, not at the                 |    +--+ parked
//	       |  |    \ head of the chain                 |
//	       |  |     +--> ToSpill --> settled           |
//	       |  |                                        |
//	       |  +-- short circuit                        |
//	       +----> ToReply --- failed for good ---------+
//	                 +------> settled
//
// Every leg works from the View of the moment and holds it for one attempt
// only, so that a step that takes its time, or a sink that is down, sees what
// was changed in the table meanwhile.
type task struct {
	r        *runner
	sub      backend.Subscription
	rec      *backend.Delivery
	charged  int64 // bytes of the budget
	received time.Time
	parked   bool

	head    *event.Event // what the record holds
	ran     []string     // UIDs of the steps that answered in this chain
	started time.Time    // of the chain: its work at risk counts from here
	at      position
	stored  payloads
	hop     Hop // the one under way

	plain bool // no more pods: one was lost with this record
	twice bool // some step may have run more than once
}

// position is where a task stands.
type position struct {
	leg    Leg
	uid    string       // the step concerned
	travel Travel       // how the event came to it
	event  *event.Event // entering the step
	reply  *event.Event // what the step answered; ToReply
	failed failure      // ToDeadLetter
	tried  egress.Tried // on this leg
	pauses int          // made while waiting for the backend or a sink

	pod     string      // that gave event back since it is busy
	spilled SpillReason // why it was given back, until it has gone on
	blind   bool        // event is not what entered the step: that is in no hand
}

// failure is why an event is to be dead-lettered.
type failure struct {
	dest   string // the URL that failed
	result egress.Result
	letter *event.Event
}

// action is what a leg decided.
type action struct {
	do     verb
	wait   time.Duration
	parked bool
	ending Ending
}

type verb uint8

const (
	proceed verb = iota // with the leg that position names
	wait                // and then proceed
	end
)

func endAs(e Ending) action { return action{do: end, ending: e} }

// run advances the task until its record is settled or given back.
func (t *task) run() {
	defer t.r.finish(t)
	ending := t.outcome()
	kept := ending
	if t.rec.Redelivered {
		kept = GivenBack // a former run may have passed its payload on
	}
	if ending != GivenBack {
		if err := t.sub.Ack(t.rec); err != nil {
			kept = GivenBack
			t.r.d.Logger.Warn("cannot settle; the record will come back",
				"log", t.r.log, "subscription", t.r.uid, "offset", t.rec.Offset, "error", err)
		}
	}
	if t.head != nil {
		t.stored.release(&t.r.d.discards, kept, t.head.Payload,
			discard{log: t.r.log, group: t.r.uid, stored: t.rec.Stored})
	}
	t.r.d.Observer.End(&End{
		Ending: ending, Log: t.r.log, UID: t.r.uid,
		Steps: len(t.ran), Took: time.Since(t.received),
		Risk: t.risk(), Again: t.repeated(),
	})
}

// risk is the work that a crash just now would have repeated.
func (t *task) risk() time.Duration {
	if t.started.IsZero() {
		return 0
	}
	return time.Since(t.started)
}

// repeated is how many of the steps that were run may have run before.
func (t *task) repeated() int {
	if t.twice || t.rec.Redelivered {
		return len(t.ran)
	}
	return 0
}

func (t *task) outcome() Ending {
	e, err := event.FromRecord(&t.rec.Record)
	if err != nil {
		// Not ours, and no event: there is nothing that could be delivered,
		// today or ever.
		t.r.d.Logger.Error("record is not an event; dropped",
			"log", t.r.log, "subscription", t.r.uid, "offset", t.rec.Offset, "error", err)
		return Poisoned
	}
	t.r.d.claim(&t.rec.Record, t.r.log, e)
	t.head = e
	t.begin()
	for {
		v := t.r.d.Hold()
		a := t.advance(v)
		v.Release()
		if a.do == end {
			return a.ending
		}
		t.r.park(t, a.parked)
		// Who waits when fetching ends gives back instead: the record is in
		// the log, and its next owner may as well do the waiting.
		if !sleep(t.r.fetch, a.wait) {
			return GivenBack
		}
	}
}

// begin puts the task at the head of its chain.
func (t *task) begin() {
	tried, err := t.r.d.sign.tried(&t.rec.Record, t.head, t.r.uid)
	if err != nil {
		t.r.d.Logger.Warn("ignoring what was tried before",
			"log", t.r.log, "subscription", t.r.uid, "offset", t.rec.Offset, "error", err)
	}
	t.ran = t.ran[:0]
	t.at = position{leg: ToStep, uid: t.r.uid, travel: Stored, event: t.head, tried: tried}
}

// advance runs legs until one has to wait or the task ends.
func (t *task) advance(v *View) action {
	for {
		if t.r.work.Err() != nil {
			return endAs(GivenBack)
		}
		s := v.steps[t.at.uid]
		if s == nil {
			if t.at.uid == t.r.uid {
				return endAs(GivenBack) // the subscription was removed
			}
			// A step in the middle of the chain was removed: the record is
			// still in its log and runs again by the current table.
			t.begin()
			continue
		}
		if a := t.leg(s); a.do != proceed {
			return a
		}
	}
}

func (t *task) leg(s *step) action {
	switch t.at.leg {
	case ToStep:
		return t.toStep(s)
	case ToReply:
		return t.toReply(s)
	case ToSpill:
		return t.toSpill(s)
	default:
		return t.toDeadLetter(s)
	}
}
