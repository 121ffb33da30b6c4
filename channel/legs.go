package channel

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
)

// How a task waits for the backend, or for a dead letter sink that has used up
// its policy: for ever, ever longer, up to a bound.
const (
	parkPause    = 200 * time.Millisecond
	parkPauseMax = 30 * time.Second
)

// toStep makes one attempt to have the step process the event.
func (t *task) toStep(s *step) action {
	if s.Subscriber == nil {
		return t.answered(s, t.at.event)
	}
	if t.at.travel == Stored {
		if a, ok := t.mayTry(s, &s.Policy); !ok {
			return a
		}
		t.started = time.Now()
	}
	if a, ran := t.inPod(s); ran {
		return a
	}
	if t.at.travel == InPod {
		t.at.leg = ToSpill // there is no other pod with room
		return action{}
	}
	res := t.send(s, ToStep, s.Subscriber, t.at.event)
	switch {
	case res.Err == nil:
		return t.answered(s, res.Reply)
	case t.r.work.Err() != nil:
		return endAs(GivenBack)
	case storeDown(res):
		return t.waitForStore()
	}
	return t.failedAt(s, res)
}

// failedAt counts a failed attempt at a step. Only at the head of a chain is the
// next one made from here.
func (t *task) failedAt(s *step, res egress.Result) action {
	t.note(s, res)
	if t.at.travel != Stored {
		t.at.leg, t.at.spilled = ToSpill, reasonOf(res)
	}
	return action{}
}

// reasonOf is why an event is given back to the store whose attempt ended so.
func reasonOf(res egress.Result) SpillReason {
	var timeout interface{ Timeout() bool }
	switch {
	case res.Status != 0:
		return Failed
	case errors.As(res.Err, &timeout) && timeout.Timeout():
		return TimedOut
	default:
		return Refused
	}
}

// storeDown tells that an attempt says nothing about the destination: the event's
// data could not be had, or that of the answer not be kept.
func storeDown(r egress.Result) bool { return errors.Is(r.Err, event.ErrPayloadUnavailable) }

// waitForStore makes the attempt again when the store may be back; it does not
// count. From the middle of a chain the durable path does so.
func (t *task) waitForStore() action {
	if t.at.travel != Stored && t.at.leg == ToStep {
		t.at.leg = ToSpill
		return action{}
	}
	return t.waitForBackend()
}

// mayTry tells whether the policy allows an attempt now. If not, the action
// says what to do: wait for it, or give up on the destination.
func (t *task) mayTry(s *step, p *egress.Policy) (action, bool) {
	tried := &t.at.tried
	if tried.Attempts == 0 {
		return action{}, true
	}
	if tried.Attempts > p.Retry || !egress.Retryable(tried.Last) {
		dest := ""
		switch {
		case t.at.leg == ToStep:
			dest = s.Subscriber.Display()
		case s.Reply != nil:
			dest = s.Reply.Target.Display()
		}
		return t.fail(s, dest, tried.Last), false
	}
	if pause := time.Until(tried.NotBefore); pause > 0 {
		return action{do: wait, wait: pause}, false
	}
	return action{}, true
}

// note counts a failed attempt, and sets when the next one may be made.
func (t *task) note(s *step, res egress.Result) {
	tried := &t.at.tried
	tried.Attempts++
	tried.Last = res
	tried.Last.Attempts = tried.Attempts
	tried.NotBefore = time.Now().Add(s.Policy.Pause(tried.Attempts, res.RetryAfter))
}

// fail gives up on a destination: what entered the step is a dead letter.
func (t *task) fail(s *step, dest string, res egress.Result) action {
	if t.at.blind && s.DeadLetter != nil {
		// What is to be a dead letter went from step to step within a pod,
		// and is gone. It is made anew.
		t.plain, t.twice = true, true
		t.begin()
		return action{}
	}
	t.at.leg = ToDeadLetter
	t.at.failed = failure{dest: dest, result: res}
	t.at.tried = egress.Tried{}
	t.at.pauses = 0
	t.at.spilled = NoSpill
	return action{}
}

// answered goes on with what a step answered, nil for nothing.
func (t *task) answered(s *step, reply *event.Event) action {
	t.keep(reply)
	return t.goOn(s, reply)
}

// keep accounts for an event that came back for the one that the task holds.
func (t *task) keep(reply *event.Event) {
	if reply == nil || reply == t.at.event {
		return
	}
	n := int64(len(reply.Data))
	t.r.d.Budget.Force(t.r.namespace, n)
	t.charged += n
	t.stored.answered(t.at.event.Payload, reply.Payload)
}

func (t *task) goOn(s *step, reply *event.Event) action {
	t.ran = append(t.ran, s.UID)
	if reply == nil || s.Reply == nil {
		return endAs(Completed)
	}
	t.at.leg, t.at.reply, t.at.tried, t.at.pauses = ToReply, reply, egress.Tried{}, 0
	if n := t.next(s, reply); n != nil {
		t.at = position{leg: ToStep, uid: n.UID, travel: ShortCircuited, event: reply}
	}
	return action{}
}

// next is the step that reply may be handed to without being stored, or nil.
func (t *task) next(s *step, reply *event.Event) *step {
	n := s.next
	if n == nil || !s.remote || len(t.ran) >= maxSteps || t.has(n) {
		return nil
	}
	if t.r.fetch.Err() != nil {
		return nil // stopping: make it safe rather than go on
	}
	if t.budget() <= 0 {
		return nil // too much work at risk
	}
	if t.r.d.tight(reply) {
		return nil // if trouble came, it could not be spilled
	}
	return n
}

// tight tells that e, with what was tried beside it, may exceed what the
// backend takes.
func (d *Dispatcher) tight(e *event.Event) bool {
	size := event.RecordSize(e)
	if e.Payload != nil {
		size += claimHeaderSize
	}
	return size > d.limit-maxSpillHeader
}

// toReply hands the step's answer to where the subscription wants it.
func (t *task) toReply(s *step) action {
	if s.Reply == nil {
		return endAs(Completed) // no longer wanted
	}
	if s.Reply.Channel != "" {
		return t.publishReply(s)
	}
	if a, ok := t.mayTry(s, &s.Policy); !ok {
		return a
	}
	res := t.send(s, ToReply, &s.Reply.Target, t.at.reply)
	switch {
	case res.Err == nil:
		return endAs(Replied)
	case t.r.work.Err() != nil:
		return endAs(GivenBack)
	case storeDown(res):
		return t.waitForStore()
	}
	t.note(s, res)
	return action{}
}

func (t *task) publishReply(s *step) action {
	if s.reply == nil {
		return t.again() // its channel is not in the table (yet)
	}
	err := t.publish(s, ToReply, s.reply, t.at.reply)
	switch {
	case err == nil:
		return endAs(Replied)
	case errors.Is(err, backend.ErrTooLarge):
		return t.fail(s, s.reply.URL, egress.Result{
			Status: http.StatusRequestEntityTooLarge, Body: []byte(err.Error()), Attempts: 1, Err: err,
		})
	case errors.Is(err, event.ErrPayloadGone):
		return t.fail(s, s.reply.URL, egress.Result{Body: []byte(err.Error()), Attempts: 1, Err: err})
	case gone(err):
		return t.again()
	}
	return t.waitForBackend()
}

// toSpill stores the event in the channel of the step that it was entering,
// with what was tried, and leaves the rest to the durable path.
func (t *task) toSpill(s *step) action {
	var tried []backend.Header
	if t.at.tried.Attempts > 0 {
		tried = append(tried, t.r.d.sign.header(t.at.event, s.UID, &t.at.tried))
	}
	err := t.publish(s, ToSpill, s.channel, t.at.event, tried...)
	switch {
	case err == nil:
		return endAs(Spilled)
	case errors.Is(err, backend.ErrTooLarge):
		// Cannot be by what next checked, unless the limit changed. Then
		// the retries are made from here, and the record waits for them.
		t.at.leg, t.at.travel = ToStep, Stored
		return action{}
	case gone(err):
		return t.again()
	}
	return t.waitForBackend()
}

// toDeadLetter hands what entered the step to the dead letter sink. Only its
// acceptance settles the record: when the policy is used up, the record is
// parked and tries on.
func (t *task) toDeadLetter(s *step) action {
	f := &t.at.failed
	if s.DeadLetter == nil {
		t.r.d.Logger.Error("event dropped: it failed for good and there is no dead letter sink",
			"channel", s.channel.log, "subscription", s.Namespace+"/"+s.Name,
			"event", t.at.event.ID, "source", t.at.event.Source,
			"destination", f.dest, "status", f.result.Status, "error", f.result.Err)
		return endAs(Dropped)
	}
	if f.letter == nil {
		f.letter = deadLetter(t.at.event, f)
	}
	if s.DeadLetter.Channel != "" {
		return t.publishDeadLetter(s)
	}
	tried := &t.at.tried
	if tried.Attempts > 0 {
		if pause := time.Until(tried.NotBefore); pause > 0 {
			return action{do: wait, wait: pause, parked: tried.Attempts > s.Policy.Retry}
		}
	}
	res := t.send(s, ToDeadLetter, &s.DeadLetter.Target, f.letter)
	switch {
	case res.Err == nil:
		return endAs(DeadLettered)
	case t.r.work.Err() != nil:
		return endAs(GivenBack)
	case storeDown(res):
		return t.waitForStore()
	case errors.Is(res.Err, event.ErrPayloadGone):
		return t.withoutPayload(res.Err)
	}
	t.note(s, res)
	if tried.Attempts > s.Policy.Retry || !egress.Retryable(res) {
		tried.Attempts = max(tried.Attempts, s.Policy.Retry+1)
		t.at.pauses++
		tried.NotBefore = time.Now().Add(max(parked(t.at.pauses), res.RetryAfter))
	}
	return action{}
}

func (t *task) publishDeadLetter(s *step) action {
	c := s.deadLetter
	if c == nil {
		return t.waitForBackend()
	}
	err := t.publish(s, ToDeadLetter, c, t.at.failed.letter)
	switch {
	case err == nil:
		return endAs(DeadLettered)
	case errors.Is(err, event.ErrPayloadGone):
		return t.withoutPayload(err)
	}
	return t.waitForBackend()
}

// deadLetter is e with why it is one. Where its data is lost, the attributes are
// all there is to be kept.
func deadLetter(e *event.Event, f *failure) *event.Event {
	res := f.result
	lost := errors.Is(res.Err, event.ErrPayloadGone)
	if lost && len(res.Body) == 0 {
		res.Body = []byte(res.Err.Error())
	}
	letter := egress.DeadLetter(e, f.dest, res)
	if lost {
		letter.Payload = nil // DeadLetter made it: it is ours
	}
	return letter
}

// withoutPayload goes on with a dead letter whose data has turned out to be lost.
func (t *task) withoutPayload(err error) action {
	f := &t.at.failed
	t.r.d.Logger.Error("the payload of a dead letter is lost; it is sent without",
		"log", t.r.log, "subscription", t.r.uid, "event", t.at.event.ID, "source", t.at.event.Source, "error", err)
	f.result.Err = err
	f.letter = deadLetter(t.at.event, f)
	return action{}
}

// again runs the record anew by the table that comes: a channel that it needs
// is not there.
func (t *task) again() action {
	pauses := t.at.pauses
	t.begin()
	t.at.pauses = pauses
	return t.waitForBackend()
}

func (t *task) waitForBackend() action {
	t.at.pauses++
	return action{do: wait, wait: parked(t.at.pauses), parked: true}
}

// parked is the nth pause of a parked record, with jitter.
func parked(n int) time.Duration {
	d := min(parkPause<<min(n-1, 16), parkPauseMax)
	return d/2 + rand.N(d/2)
}

// send makes one attempt over the wire.
func (t *task) send(s *step, leg Leg, target *egress.Target, e *event.Event) egress.Result {
	d := t.r.d
	timeout := s.Policy.Timeout
	if timeout == 0 {
		timeout = d.AttemptTimeout
	}
	h := &t.hop
	*h = Hop{
		Leg: leg, Travel: t.at.travel, Channel: s.channel, Subscription: s.Subscription, Event: e,
		Start: time.Now(), Dest: target.Display(), Spilled: t.at.spilled, Attempt: t.at.tried.Attempts + 1,
	}
	span := d.begin(h)
	res, referred := t.attempt(s, leg, target, h.Event, timeout)
	res.Attempts = h.Attempt
	h.Took, h.Result, h.Reference = time.Since(h.Start), &res, referred
	d.end(h, span)
	t.at.spilled = NoSpill
	return res
}

// attempt sends e, or a link to its data.
func (t *task) attempt(s *step, leg Leg, target *egress.Target, e *event.Event, timeout time.Duration) (res egress.Result, referred bool) {
	d := t.r.d
	req := egress.Request{Target: target, Event: e, Namespace: s.Namespace, PreferReply: leg == ToStep, ReplyOwner: s.replyOwner()}
	var link string
	if target.Reference && e.Payload != nil {
		var err error
		if req.Event, link, req.Extra, err = d.Claims.byReference(t.r.work, e); err != nil {
			return egress.Result{Err: fmt.Errorf("%w: %w", egress.ErrPayload, err)}, true
		}
	}
	res = d.Sender.Send(t.r.work, &req, s.Policy.Format, timeout)
	res.Reply = returned(res.Reply, e, link)
	return res, link != ""
}

// publish stores e in a channel of ours.
func (t *task) publish(s *step, leg Leg, c *Channel, e *event.Event, extra ...backend.Header) error {
	d := t.r.d
	h := &t.hop
	*h = Hop{
		Leg: leg, Travel: t.at.travel, Channel: s.channel, Subscription: s.Subscription, Event: e, Stores: true,
		Start: time.Now(), Dest: c.log, Spilled: t.at.spilled, Attempt: t.at.pauses + 1,
	}
	var err error
	h.Event, err = t.rehome(c, e)
	span := d.begin(h)
	if err == nil {
		err = t.store(s, leg, c, h.Event, extra)
	}
	h.stored(err)
	d.end(h, span)
	return err
}

// store stores e, whose payload is where c may have it.
func (t *task) store(s *step, leg Leg, c *Channel, e *event.Event, extra []backend.Header) error {
	d := t.r.d
	rec, err := d.record(t.r.work, c, e, extra...)
	if err != nil {
		return err
	}
	rec.Dedup = dedup(t.rec, s.UID, leg, e.Payload)
	t.stored.publishing(e.Payload)
	return d.Backend.Publish(t.r.work, c.log, &rec)
}

// rehome is Dispatcher.rehome, once for each payload and channel; e itself if there
// is an error.
func (t *task) rehome(c *Channel, e *event.Event) (*event.Event, error) {
	if m := &t.stored.moved; m.event == e && m.log == c.log {
		return m.to, nil
	}
	to, err := t.r.d.rehome(t.r.work, c, e)
	if err != nil {
		return e, err
	}
	if to != e {
		t.stored.answered(e.Payload, to.Payload)
		t.stored.moved = moved{e, c.log, to}
	}
	return to, nil
}
