package channel

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
)

// Pods runs steps that share a pod one after the other, in one exchange with
// that pod. What it cannot place it leaves alone, and the engine delivers as if
// there were no pods. Its methods may be called from any goroutine.
type Pods interface {
	// Run offers the first r.Most steps of a chain to a pod. It returns when
	// the pod has answered, was given up, or ctx has ended. r is the
	// caller's, and not kept.
	Run(ctx context.Context, r *PodRun) PodResult
}

// Chain is steps that may run one after the other without the store, as far as
// the table decides: each answers into a channel whose only subscription is the
// next one. It lives as long as its View, and does not change.
type Chain struct {
	Steps []*Subscription // at least one, each with a Subscriber
	// Memo is for Pods alone: what it found out about this Chain.
	Memo atomic.Value
}

// PodRun is an event, and the steps that wait for it.
type PodRun struct {
	Chain *Chain
	// Most is how many of the chain's steps may be run: 1 or more.
	Most  int
	Event *event.Event // enters the first step
	// Traced: the event's trace context is that of the first step's hop; those
	// that follow in the pod have Trace.Next's.
	Traced bool
	// Key keeps what belongs together together, "" for nothing.
	Key string
	// Budget is the work that may be put at risk: when so much time has
	// passed, no further step is begun.
	Budget time.Duration
	// AttemptTimeout is for steps whose policy has no timeout.
	AttemptTimeout time.Duration
	// Room is the most bytes of a record that an event may become between two
	// steps: beyond it nobody could store it. 0: any.
	Room int
	// ReplyOwner is the channel for whose record a large answer is stored.
	ReplyOwner string
	// Spilled is the pod that gave the event back since it is busy, or "".
	// Another one is wanted, even if only for one step.
	Spilled string
}

// PodOutcome is what became of a PodRun.
type PodOutcome uint8

// The outcomes.
const (
	// NotRun: no step was begun, and none is to blame.
	NotRun PodOutcome = iota
	// PodCompleted: PodResult.Ran steps answered, the last with Event, or
	// with none; then the chain is at its end.
	PodCompleted
	// PodSpilled: the pod gave Event back, which enters the step number
	// PodResult.Ran. If that is the first, it failed.
	PodSpilled
	// PodLost: there is no answer, or not all of one. Some steps may have run.
	PodLost
)

// PodResult is what a pod answered.
type PodResult struct {
	Outcome PodOutcome
	Pod     string
	// Ran steps answered, from the first on.
	Ran int
	// Event is what the last of them answered; nil if that was nothing. A spill
	// before the first step has none.
	Event *event.Event
	// Entered is what entered the last step that ran. It must be there where
	// that step's answer leaves for an address outside and there is a dead letter
	// sink, and may be nil elsewhere.
	Entered *event.Event
	// Took is the time of each step that ran, and of the one that failed.
	Took []time.Duration
	// Reason is why the event was given back.
	Reason SpillReason
	// Seen is what the step that failed did: set if Reason.Failed.
	Seen egress.Result
	// Err is why there is no answer: PodLost.
	Err error
}

// SpillReason is why an event was given back from the middle of a chain.
type SpillReason uint8

// The reasons.
const (
	NoSpill    SpillReason = iota
	Failed                 // the step answered with another status than 2xx, or with no event
	TimedOut               // the step did not answer in time
	Refused                // the step was not listening, or hung up
	Overloaded             // the step has no place, and elsewhere it is quicker
	Checkpoint             // enough work is at risk
	TooLarge               // no room for the event, or for the step's answer: the step may have run
	Misplaced              // the pod does not have the step
)

func (r SpillReason) String() string {
	return [...]string{
		"", "status", "timeout", "unreachable", "overload", "checkpoint", "too-large", "not-mine",
	}[r]
}

// failed tells that the step was called, which counts as an attempt.
func (r SpillReason) failed() bool { return r == Failed || r == TimedOut || r == Refused }

// offer is how many steps of s's chain may be run from here.
func (t *task) offer(s *step) int {
	c := s.chain
	if c == nil || t.plain || t.r.d.Pods == nil {
		return 0
	}
	n := 1
	if t.r.fetch.Err() != nil || t.budget() <= 0 {
		return n // what follows is to be stored
	}
	for n < len(c.steps) && len(t.ran)+n < maxSteps && !t.has(c.steps[n]) {
		n++
	}
	return n
}

// has tells that a step was run in this chain.
func (t *task) has(s *step) bool {
	for _, uid := range t.ran {
		if uid == s.UID {
			return true
		}
	}
	return false
}

// budget is how much more work may be put at risk.
func (t *task) budget() time.Duration {
	return time.Duration(t.r.d.checkpointAfter.Load()) - time.Since(t.started)
}

// inPod offers s, and what may follow it, to the pods. It is false if nothing
// came of it.
func (t *task) inPod(s *step) (action, bool) {
	n := t.offer(s)
	if n == 0 {
		return action{}, false
	}
	d := t.r.d
	h := t.toPod(s)
	span := d.begin(h)
	run := PodRun{
		Chain: &s.chain.Chain, Most: n, Event: h.Event, Traced: span != nil, Key: t.rec.Key, Budget: t.budget(),
		AttemptTimeout: d.AttemptTimeout, ReplyOwner: s.chain.steps[n-1].replyOwner(), Spilled: t.at.pod,
	}
	if d.Claims == nil {
		run.Room = d.limit - maxSpillHeader
	}
	res := d.Pods.Run(t.r.work, &run)
	if res.Outcome == NotRun {
		return action{}, false
	}
	t.observe(s.chain, h, &res, span)
	switch res.Outcome {
	case PodCompleted:
		return t.podCompleted(s.chain, &res), true
	case PodSpilled:
		return t.podSpilled(s.chain, &res)
	default:
		return t.podLost(&res), true
	}
}

// podCompleted goes on with what the last step answered.
func (t *task) podCompleted(c *chain, res *PodResult) action {
	last := c.steps[res.Ran-1]
	t.passed(c, res.Ran-1)
	t.keep(res.Event)
	if res.Ran > 1 {
		t.at.uid, t.at.travel = last.UID, InPod
		t.enter(res.Entered)
	}
	return t.goOn(last, res.Event)
}

// podSpilled takes back an event from the middle of the chain. What failed is
// stored with what was seen; the durable path goes on from there.
func (t *task) podSpilled(c *chain, res *PodResult) (action, bool) {
	at := c.steps[res.Ran]
	if res.Ran == 0 {
		if !res.Reason.failed() {
			return action{}, false
		}
		return t.failedAt(at, res.Seen), true
	}
	t.passed(c, res.Ran)
	t.keep(res.Event)
	switch {
	case res.Reason.failed():
		t.at = position{leg: ToSpill, uid: at.UID, travel: InPod, event: res.Event}
		t.note(at, res.Seen)
	case res.Reason == Overloaded && t.r.fetch.Err() == nil && t.budget() > 0 && !t.r.d.tight(res.Event):
		t.at = position{leg: ToStep, uid: at.UID, travel: InPod, event: res.Event, pod: res.Pod}
	case res.Reason == Overloaded, res.Reason == TooLarge && !t.r.d.tight(res.Event):
		t.at = position{leg: ToSpill, uid: at.UID, travel: InPod, event: res.Event}
	default:
		// As if the step before it had been the chain's last.
		t.at = position{leg: ToReply, uid: c.steps[res.Ran-1].UID, travel: InPod, event: t.at.event, reply: res.Event}
		t.enter(res.Entered)
	}
	t.at.spilled = res.Reason
	return action{}, true
}

// podLost goes on after a process has died, or the way to it was cut. Which of
// the steps have run is not known, and what the first of them would have
// answered neither: no policy is used up. The steps run again, the first one
// by itself, so that each round gets at least one step further.
func (t *task) podLost(res *PodResult) action {
	if t.r.work.Err() != nil {
		return endAs(GivenBack)
	}
	t.r.d.Logger.Warn("a pod did not answer; its steps run again",
		"log", t.r.log, "subscription", t.r.uid, "pod", res.Pod, "error", res.Err)
	t.plain, t.twice = true, true
	if t.at.travel == InPod {
		t.at.leg = ToSpill
	}
	return action{}
}

// passed counts the first n steps of a chain as run.
func (t *task) passed(c *chain, n int) {
	for _, s := range c.steps[:n] {
		t.ran = append(t.ran, s.UID)
	}
}

// enter notes what entered the step at which the task stands, if that is known.
func (t *task) enter(e *event.Event) {
	t.at.blind = e == nil
	if e != nil {
		t.at.event = e
	}
}

// toPod is the hop of the event at hand to a step in a pod.
func (t *task) toPod(s *step) *Hop {
	h := &t.hop
	*h = Hop{
		Leg: ToStep, Travel: t.at.travel, Channel: s.channel, Subscription: s.Subscription, Event: t.at.event,
		Start: time.Now(), Dest: s.Subscriber.Display(), Spilled: t.at.spilled, Attempt: t.at.tried.Attempts + 1,
	}
	if t.at.pod != "" {
		h.Travel = ShortCircuited // from one pod to another
	}
	return h
}

// observe tells of each step that a pod called, of which h is the first. What the
// exchange took beside the steps is taken to be one half the way there and one half
// the way back.
func (t *task) observe(c *chain, h *Hop, res *PodResult, span Span) {
	beside := time.Since(h.Start)
	if res.Outcome == PodLost {
		res.Took = append(res.Took[:0], beside)
	}
	for _, took := range res.Took {
		beside -= took
	}
	at := h.Start.Add(max(0, beside/2))
	h.Pod = res.Pod
	for i, took := range res.Took {
		if i > 0 {
			s := c.steps[i]
			h.Travel, h.Channel, h.Subscription, h.Dest = InPod, s.channel, s.Subscription, s.Subscriber.Display()
			h.Attempt, h.Spilled = 1, NoSpill
			if h.Start = at; span != nil {
				span = span.Then(h)
			}
		}
		h.Start, h.Took, h.Result = at, took, res.seen(i)
		h.Result.Attempts = h.Attempt
		t.r.d.end(h, span)
		at = at.Add(took)
		t.at.spilled = NoSpill
	}
}

// seen is what the step number i did.
func (r *PodResult) seen(i int) *egress.Result {
	switch {
	case r.Outcome == PodLost:
		return &egress.Result{Err: r.Err}
	case i == r.Ran:
		seen := r.Seen
		return &seen
	}
	return &egress.Result{Status: http.StatusOK}
}
