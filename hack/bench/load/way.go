package main

import (
	"context"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/colocate"
	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// way is how our chains go from the first step to the second.
type way uint8

const (
	stay way = iota // in the pod in which they are
	anew            // the pod is chosen anew before each step
	ours
	queue // computed
	ways
)

func (w way) String() string {
	return [...]string{"local only", "remote only", "Sidestep", "one queue for all"}[w]
}

// sender has sidecars keep what waits, if that is the way.
func (w way) sender(s egress.Sender) egress.Sender {
	if w == stay {
		return patient{s}
	}
	return s
}

type patient struct{ egress.Sender }

func (p patient) Send(ctx context.Context, r *egress.Request, f egress.Format, timeout time.Duration) egress.Result {
	for i := range r.Extra {
		if r.Extra[i].Name == wire.LimitsHeader {
			if l, err := wire.ParseLimits(r.Extra[i].Value); err == nil {
				l.SpillAfter, l.Budget = time.Hour, time.Hour
				r.Extra[i] = event.Attribute{Name: wire.LimitsHeader, Value: string(l.Append(nil))}
			}
		}
	}
	return p.Sender.Send(ctx, r, f, timeout)
}

// forced has the chains of a Pods go one way.
type forced struct {
	*colocate.Pods
	way way
}

// poll is how often an event looks for a place.
const poll = 500 * time.Microsecond

// nobody is no pod: a chain that it gave back may go to any.
const nobody = "nobody"

// Run implements channel.Pods.
func (f forced) Run(ctx context.Context, r *channel.PodRun) channel.PodResult {
	if f.way != anew {
		return f.Pods.Run(ctx, r)
	}
	one := *r
	one.Most, one.Spilled = 1, nobody
	res := f.Pods.Run(ctx, &one)
	// Where no pod has a place the event waits for one here: in a store, and from there
	// by the step's own address, it would pass by those that wait in the pods.
	for ; res.Outcome == channel.NotRun && ctx.Err() == nil; res = f.Pods.Run(ctx, &one) {
		time.Sleep(poll)
	}
	if r.Most > 1 && res.Outcome == channel.PodCompleted && res.Event != nil {
		res.Outcome, res.Reason = channel.PodSpilled, channel.Overloaded
	}
	return res
}
