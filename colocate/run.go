package colocate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/colocate/balance"
	"github.com/sidestep-dev/sidestep/colocate/wire"
)

const (
	// quiet is how long a sidecar may give no sign of life. It sends one every
	// few seconds while a chain runs.
	quiet = 30 * time.Second
	// slack is what a chain may take beside the attempts at its steps.
	slack = time.Minute
	// maxTries bounds the pods that are tried for one run, and maxWait how long it
	// waits for one of them to have room. Then the steps are called by their
	// addresses.
	maxTries = 16
	maxWait  = 5 * time.Second
)

// Run implements channel.Pods.
func (p *Pods) Run(ctx context.Context, r *channel.PodRun) channel.PodResult {
	least := 2 // one step by itself gains nothing
	if r.Spilled != "" {
		least = 1
	}
	if r.Most < least {
		return channel.PodResult{}
	}
	l := p.plan(r)
	if len(l.runs) == 0 || l.runs[0].steps < least {
		return channel.PodResult{}
	}
	a := attempts.Get().(*attempt) //nolint:forcetypeassert,errcheck // nothing else is in it
	defer a.free()
	a.pods, a.plan, a.run, a.least = p, l, r, least
	if r.Spilled != "" {
		a.exclude = append(a.exclude, r.Spilled)
	}
	for tries := 0; tries < maxTries && ctx.Err() == nil; {
		if a.choose() {
			tries++
			if res, ran := a.exchange(ctx); ran {
				return res
			}
		} else if !a.wait(ctx) {
			break
		}
	}
	return channel.PodResult{}
}

// attempt is what one Run uses. It is kept for the next one.
type attempt struct {
	pods    *Pods
	plan    *plan
	run     *channel.PodRun
	least   int
	exclude []string
	waited  time.Duration

	pod    *pod
	told   *wire.Handshake
	choice balance.Choice
	set    *set
	steps  int

	request egress.Request
	extra   [2]event.Attribute
	limits  []byte
	outcome wire.Outcome
	parsed  bool  // outcome is that of the answer
	wrong   error // with the outcome
	report  balance.Report
}

var attempts = sync.Pool{New: func() any {
	a := &attempt{}
	a.outcome.Ran = make([]wire.Timing, 0, 8)
	a.request.Fields = []string{wire.OutcomeHeader, loadHeader}
	a.request.PreferReply = false
	a.request.Quiet = quiet
	a.request.Before = a.before
	a.request.Extra = a.extra[:]
	return a
}}

const loadHeader = "endpoint-load-metrics"

func (a *attempt) free() {
	a.pods, a.plan, a.run, a.pod, a.told, a.set, a.wrong = nil, nil, nil, nil, nil, nil, nil
	a.choice = balance.Choice{}
	a.waited = 0
	clear(a.exclude)
	a.exclude = a.exclude[:0]
	a.request.Target, a.request.Event, a.request.ReplyOwner = nil, nil, ""
	a.extra = [2]event.Attribute{}
	a.outcome = wire.Outcome{Ran: a.outcome.Ran[:0]}
	attempts.Put(a)
}

// choose picks a pod, of those that hold most of the steps before others. It is
// false if there is none with room.
func (a *attempt) choose() bool {
	a.pod = nil
	size := a.run.Event.Size()
	for _, r := range a.plan.runs {
		if r.steps < a.least {
			break
		}
		for range maxTries {
			c, ok := a.pick(r.set, size)
			if !ok {
				break
			}
			d := (*r.set.holders.Load())[c.Replica()]
			if d != nil {
				if told := d.usable.Load(); told != nil && fits(told, a.run.Event) {
					a.pod, a.told, a.choice, a.set, a.steps = d, told, c, r.set, min(r.steps, a.run.Most)
					return true
				}
			}
			c.Done(balance.Outcome{})
			a.exclude = append(a.exclude, c.Replica())
		}
	}
	return false
}

func (a *attempt) pick(s *set, size int64) (balance.Choice, bool) {
	if a.run.Spilled != "" {
		return s.HandOff(a.plan.calls[0].service, size, a.exclude...)
	}
	return s.Pick(a.run.Key, a.exclude...)
}

// fits tells whether a sidecar takes an event.
func fits(h *wire.Handshake, e *event.Event) bool {
	size := e.Size()
	return size <= int64(h.Inline) || (h.Claims && size <= h.MaxEventBytes)
}

// wait waits for a place, if one is to be had soon. An event that was given back
// does not wait: the store is quicker.
func (a *attempt) wait(ctx context.Context) bool {
	a.pod = nil
	if a.run.Spilled != "" || a.waited >= maxWait {
		return false
	}
	var soonest time.Duration
	for _, r := range a.plan.runs {
		if d := r.set.NextFree(); r.steps >= a.least && d > 0 && (soonest == 0 || d < soonest) {
			soonest = d
		}
	}
	if soonest == 0 {
		return false
	}
	soonest = min(soonest, maxWait-a.waited)
	a.waited += soonest
	clear(a.exclude)
	a.exclude = a.exclude[:0]
	t := time.NewTimer(soonest)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// exchange sends the event to the chosen pod. It is false if nothing was run
// there, and another may be tried.
func (a *attempt) exchange(ctx context.Context) (channel.PodResult, bool) {
	a.set.used.Store(time.Now().Unix())
	if err := a.prepare(); err != nil {
		a.choice.Done(balance.Outcome{})
		a.pods.logger.Error("no slip for a chain", "pod", a.pod.ID, "error", err)
		a.exclude = append(a.exclude, a.pod.ID)
		return channel.PodResult{}, false
	}
	timeout := a.plan.timeoutOf(a.steps) + slack
	got := a.pods.sender.Send(ctx, &a.request, egress.Binary, timeout)
	if got.Status == 0 {
		return a.unanswered(ctx, &got)
	}
	a.read(&got)
	if a.wrong != nil {
		a.done(balance.Failed, &got)
		a.pods.doubt(a.pod, a.told)
		return a.lost(a.wrong), true
	}
	res, ran := a.result(&got)
	if ran && a.pod.doubts.Load() != 0 {
		a.pod.doubts.Store(0)
	}
	if !ran {
		a.exclude = append(a.exclude, a.pod.ID)
	}
	return res, ran
}

// prepare fills in the request.
func (a *attempt) prepare() error {
	key := wire.Key{Pod: a.told.Pod, Chain: a.plan.key(a.steps)}
	slip, err := a.pods.signer.Load().Header(key, func() *wire.Slip { return a.plan.slip(a.pod, a.told.Pod, a.steps) })
	if err != nil {
		return err
	}
	limits := wire.Limits{Room: a.run.Room, SpillAfter: a.spillAfter(), Budget: max(0, a.run.Budget), Traced: a.run.Traced}
	if a.run.Spilled != "" {
		limits.Wait = limits.Budget // it has waited already, and it is its turn somewhere
	}
	a.limits = limits.Append(a.limits[:0])
	a.extra[0] = event.Attribute{Name: wire.SlipHeader, Value: slip}
	a.extra[1] = event.Attribute{Name: wire.LimitsHeader, Value: string(a.limits)}
	a.request.Target, a.request.Event, a.request.ReplyOwner = &a.pod.target, a.run.Event, a.run.ReplyOwner
	a.outcome = wire.Outcome{Ran: a.outcome.Ran[:0]}
	a.parsed, a.wrong = false, nil
	return nil
}

// spillAfter is how long the chain may wait for a place within the pod.
func (a *attempt) spillAfter() time.Duration {
	limit := max(0, a.run.Budget)
	if len(*a.set.holders.Load()) < 2 {
		return limit
	}
	size := a.run.Event.Size()
	for i := 1; i < a.steps; i++ {
		d := a.set.SpillAfter(a.pod.ID, a.plan.calls[i].service, size, limit, a.exclude...)
		limit = min(limit, d)
	}
	return limit
}

// before reads the outcome when the header has come.
func (a *attempt) before(fields []string) int {
	a.parsed, a.wrong = true, nil
	if fields[0] == "" {
		a.wrong = errNoSidecar
		return 0
	}
	if err := wire.ParseOutcome(fields[0], &a.outcome); err != nil {
		a.wrong = err
		return 0
	}
	return a.outcome.Entering
}

// errNoSidecar: whoever answered is not a sidecar.
var errNoSidecar = errors.New("the answer has no outcome: it does not come from a sidecar")

// read takes in what the header said.
func (a *attempt) read(got *egress.Result) {
	if !a.parsed { // a status without an event
		a.before(got.Fields)
	}
	if a.wrong != nil {
		a.wrong = fmt.Errorf("status %d: %w", got.Status, a.wrong)
		return
	}
	o := &a.outcome
	switch {
	case o.Kind == wire.Busy, o.Reason == wire.NotMine:
		return // whatever the status
	case got.Err != nil:
		a.wrong = got.Err
	case o.Kind == wire.Completed && (len(o.Ran) == 0 || len(o.Ran) > a.steps),
		o.Kind == wire.Completed && o.Event && len(o.Ran) < a.steps,
		o.Kind == wire.Spilled && (o.Step >= a.steps || len(o.Ran) != o.Step):
		a.wrong = fmt.Errorf("%w: %d of %d steps ran, %v at step %d", wire.ErrOutcome, len(o.Ran), a.steps, o.Kind, o.Step)
	case o.Event != (got.Reply != nil):
		a.wrong = fmt.Errorf("%w: its event is not what it says", wire.ErrOutcome)
	}
}

// unanswered tells what it means that there is no answer, or not all of one.
func (a *attempt) unanswered(ctx context.Context, got *egress.Result) (channel.PodResult, bool) {
	switch {
	case ctx.Err() != nil:
		a.choice.Done(balance.Outcome{})
	case errors.Is(got.Err, egress.ErrPayload), errors.Is(got.Err, event.ErrPayloadUnavailable):
		// The event's data could not be read, or the answer's not be kept: the
		// pod is not to blame. What a plain delivery does then is the engine's affair.
		a.choice.Done(balance.Outcome{})
		return channel.PodResult{}, true
	case errors.Is(got.Err, egress.ErrDial):
		a.choice.Done(balance.Outcome{Result: balance.Failed})
		a.pods.doubt(a.pod, a.told)
		a.exclude = append(a.exclude, a.pod.ID)
		return channel.PodResult{}, false
	default:
		a.choice.Done(balance.Outcome{Result: balance.Failed})
		a.pods.doubt(a.pod, a.told)
	}
	return a.lost(got.Err), true
}

func (a *attempt) lost(err error) channel.PodResult {
	return channel.PodResult{Outcome: channel.PodLost, Pod: a.pod.ID, Err: err}
}

// done tells the balancer.
func (a *attempt) done(r balance.Result, got *egress.Result) {
	o := balance.Outcome{Result: r, RetryAfter: got.RetryAfter, Bytes: a.run.Event.Size()}
	if got.Reply != nil {
		o.Bytes += got.Reply.Size()
	}
	if text := got.Fields[1]; text != "" {
		if err := balance.ParseReport(text, &a.report); err == nil {
			o.Report = &a.report
		}
	}
	a.choice.Done(o)
}

// result is the outcome as the engine wants it; false if nothing was run.
func (a *attempt) result(got *egress.Result) (channel.PodResult, bool) {
	o := &a.outcome
	res := channel.PodResult{Pod: a.pod.ID, Ran: len(o.Ran), Event: got.Reply}
	switch {
	case o.Kind == wire.Busy:
		a.done(balance.Saturated, got)
		return channel.PodResult{}, false
	case o.Kind == wire.Completed:
		a.done(balance.Succeeded, got)
		res.Outcome, res.Took = channel.PodCompleted, a.took()
		return a.entered(res, got)
	case o.Reason == wire.NotMine:
		a.done(balance.Abandoned, got)
		a.pods.doubt(a.pod, a.told)
		return channel.PodResult{}, false
	case o.Reason == wire.Overload && o.Step == 0:
		a.done(balance.Saturated, got)
		return channel.PodResult{}, false
	case o.Reason == wire.Unreachable:
		a.done(balance.Failed, got)
	default:
		a.done(balance.Succeeded, got)
	}
	if o.Step == 0 && !o.Reason.Attempted() {
		return channel.PodResult{}, false // too large for this pod
	}
	res.Outcome, res.Reason, res.Took = channel.PodSpilled, spillReasons[o.Reason], a.took()
	if o.Reason.Attempted() {
		res.Seen = o.Result()
		res.Took = append(res.Took, o.Seen.Wait+o.Seen.Took)
	}
	if res.Event == nil && o.Step > 0 {
		res.Event = a.run.Event
	}
	return res, true
}

var spillReasons = [...]channel.SpillReason{
	wire.Overload: channel.Overloaded, wire.Status: channel.Failed, wire.Timeout: channel.TimedOut,
	wire.Unreachable: channel.Refused, wire.Checkpoint: channel.Checkpoint, wire.TooLarge: channel.TooLarge,
	wire.NotMine: channel.Misplaced,
}

// took are the times of the steps that ran.
func (a *attempt) took() []time.Duration {
	out := make([]time.Duration, len(a.outcome.Ran), len(a.outcome.Ran)+1)
	for i, t := range a.outcome.Ran {
		out[i] = t.Wait + t.Took
	}
	return out
}

// entered adds what entered the last step.
func (a *attempt) entered(res channel.PodResult, got *egress.Result) (channel.PodResult, bool) {
	switch {
	case res.Ran == 1:
		res.Entered = a.run.Event
	case len(got.Before) > 0:
		e, err := wire.ParseEvent(got.Before)
		if err != nil {
			a.pods.logger.Warn("cannot read what entered the last step in a pod", "pod", a.pod.ID, "error", err)
			break // the engine makes it anew, should it be needed
		}
		res.Entered = e
	}
	return res, true
}
