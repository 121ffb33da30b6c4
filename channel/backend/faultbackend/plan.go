package faultbackend

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// Op is an operation of a backend or of one of its subscriptions.
type Op int

// The operations. CloseSubscription is Subscription.Close.
const (
	EnsureLog Op = iota
	DeleteLog
	EnsureGroup
	DeleteGroup
	Seal
	Lag
	Publish
	Room
	Subscribe
	Receive
	Ack
	CloseSubscription
	Close
	ops // how many there are
)

func (o Op) String() string {
	names := [ops]string{
		"ensure log", "delete log", "ensure group", "delete group", "seal", "lag", "publish", "room",
		"subscribe", "receive", "ack", "close subscription", "close",
	}
	if o < 0 || o >= ops {
		return fmt.Sprintf("op %d", int(o))
	}
	return names[o]
}

// Call is what a plan decides about.
type Call struct {
	Op Op
	// N counts the calls of this Op on this Backend, from 1.
	N int
	// Log and Group are those the call names, or its subscription has.
	Log, Group string
}

// Action is what becomes of a call.
type Action int

const (
	// Pass lets the call through. It is the zero Action.
	Pass Action = iota
	// Fail does nothing and reports Fault.Err.
	Fail
	// LoseConfirmation does what was asked and reports Fault.Err, unless
	// it fails by itself. A record received so is withheld: the inner
	// subscription holds it until it is closed.
	LoseConfirmation
	// Drop does nothing and reports success, with zero results. A record
	// received so is withheld, and Receive waits for the next. Of
	// Subscribe it is the same as Fail.
	Drop
	// Duplicate does it twice. The second record published has no Dedup,
	// or it might be dropped; one received is handed out again, as
	// redelivered, by the next Receive. Of Subscribe it is the same as Pass.
	Duplicate
)

// Fault is what happens to one call. The zero value lets it through.
type Fault struct {
	// Delay comes before everything else. If the call's context ends
	// meanwhile, the call ends with its error and without effect.
	Delay time.Duration
	Do    Action
	// Err is what Fail and LoseConfirmation report, wrapped. nil:
	// backend.ErrUnavailable; of Room, backend.ErrFull.
	Err error
}

// Plan decides what happens to a call. It is never called twice at the same
// time for one Backend. A nil Plan lets everything through.
type Plan func(Call) Fault

// Rule is a line of a script.
type Rule struct {
	Op Op
	// First and Last are the calls it is about, counted from 1. A Last of
	// 0 means First alone, a negative one means all from First on.
	First, Last int
	Fault       Fault
}

func (r Rule) covers(c Call) bool {
	if c.Op != r.Op || c.N < r.First {
		return false
	}
	return r.Last < 0 || c.N <= max(r.First, r.Last)
}

// Script is a plan that says what happens to which call. The first rule that
// covers a call counts.
func Script(rules ...Rule) Plan {
	return func(c Call) Fault {
		for _, r := range rules {
			if r.covers(c) {
				return r.Fault
			}
		}
		return Fault{}
	}
}

// Chance is the probability, from 0 to 1, that a call of Op meets a fault.
type Chance struct {
	Op          Op
	Probability float64
	Fault       Fault
}

// Random is a plan that throws dice. The nth call of an operation always meets
// the same fault under the same seed, however the calls interleave. The first
// chance that comes up counts.
func Random(seed uint64, chances ...Chance) Plan {
	return func(c Call) Fault {
		dice := rand.New(rand.NewPCG(seed, uint64(c.Op)<<48|uint64(c.N)))
		for _, ch := range chances {
			if ch.Op == c.Op && dice.Float64() < ch.Probability {
				return ch.Fault
			}
		}
		return Fault{}
	}
}

// error is what Fail and LoseConfirmation report.
func (f Fault) error(c Call) error {
	err := f.Err
	switch {
	case err != nil:
	case c.Op == Room:
		err = backend.ErrFull
	default:
		err = backend.ErrUnavailable
	}
	return fmt.Errorf("%s %d: fault injected: %w", c.Op, c.N, err)
}

// wait is the delay; false if done ended it.
func (f Fault) wait(done <-chan struct{}) bool {
	if f.Delay <= 0 {
		return true
	}
	t := time.NewTimer(f.Delay)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-done:
		return false
	}
}
