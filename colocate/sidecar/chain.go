package sidecar

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// chain is one request's. It belongs to the goroutine that serves the request.
type chain struct {
	s      *Sidecar
	slip   *slip
	limits wire.Limits
	owner  string // of its files; "" if there is no folder for them
	began  time.Time

	at, end int  // the step that event enters; the first that is not to run
	placed  bool // there is a place for it at that step
	waited  time.Duration

	// event enters the step at; at the end it is the final one. It is whole, and
	// is kept until the step has answered completely.
	event   *event.Event
	first   bool        // event is the one that came with the request
	trace   event.Trace // of the hop to the step at, if limits.Traced
	entered []byte      // what entered the last step, if that is wanted
	charged int64       // bytes of memory

	outcome wire.Outcome
	ran     [4]wire.Timing // what outcome.Ran begins in
}

// errLost is why a chain has no outcome: the other side takes it for one whose
// process has died, and runs it anew.
var errLost = errors.New("the event was lost in the pod")

// run calls the steps in order until the chain is at its end, or has to be given
// back. An error means that there is nothing to answer with.
func (c *chain) run(ctx context.Context) error {
	for c.at < c.end {
		call := &c.slip.calls[c.at]
		if reason := c.mayCall(ctx, call); reason != 0 {
			c.spill(reason)
			return ctx.Err()
		}
		res, t := c.call(ctx, call)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch {
		case errors.Is(res.Err, event.ErrPayloadGone):
			return errors.Join(errLost, res.Err)
		case res.Err != nil:
			c.failed(res, t)
			return nil
		}
		c.outcome.Ran = append(c.outcome.Ran, t)
		c.answered(res.Reply)
	}
	c.outcome.Kind = wire.Completed
	c.outcome.Event = c.event != nil
	if c.event == nil {
		c.entered = nil
	}
	c.outcome.Entering = len(c.entered)
	return nil
}

// mayCall asks all that may keep the event from entering the step, and takes a
// place there. 0: it may.
func (c *chain) mayCall(ctx context.Context, call *call) wire.Reason {
	wait := c.s.MaxWait
	switch {
	case len(c.outcome.Ran) == 0 && c.limits.Wait > 0:
		wait = min(wait, c.limits.Wait)
	case c.limits.SpillAfter >= 0:
		wait = min(wait, c.limits.SpillAfter)
	}
	if len(c.outcome.Ran) > 0 {
		switch {
		case c.limits.Room > 0 && event.RecordSize(c.event) > c.limits.Room:
			return wire.TooLarge
		case c.limits.Budget >= 0 && time.Since(c.began) >= c.limits.Budget:
			return wire.Checkpoint
		case c.s.draining.Load():
			return wire.Overload // elsewhere it goes on
		case c.wantsEntered() && !c.enter():
			return wire.TooLarge
		}
	}
	if !c.placed {
		start := time.Now()
		if !call.step.wait(ctx, wait) {
			return wire.Overload
		}
		c.placed = true
		c.waited = time.Since(start)
	}
	return 0
}

// wantsEntered tells whether the event at hand is to be sent back beside the final
// one.
func (c *chain) wantsEntered() bool {
	return c.slip.Entering && c.at == len(c.slip.calls)-1
}

// enter keeps the event that enters the last step; false: it is too large.
func (c *chain) enter() bool {
	if c.event.Payload != nil || len(c.event.Data) > wire.MaxEntering {
		return false
	}
	c.entered = wire.AppendEvent(nil, c.event)
	return len(c.entered) <= wire.MaxEntering
}

// call makes one attempt. It gives the place back.
func (c *chain) call(ctx context.Context, call *call) (egress.Result, wire.Timing) {
	e, extra, link := c.traced(), call.extra, ""
	if call.Reference {
		e, link, extra = byReference(e, extra)
	}
	t := wire.Timing{Wait: c.waited}
	c.waited = 0
	start := time.Now()
	res := c.s.client.Send(ctx, &egress.Request{
		Target: &call.target, Event: e, Namespace: call.Namespace, PreferReply: true, Extra: extra, ReplyOwner: c.owner,
	}, call.Format, call.timeout)
	t.Took = time.Since(start)
	c.placed = false
	call.step.leave()
	if res.Status != 0 {
		call.step.learn(t.Took)
	}
	c.s.counts.calls.Add(1)
	if call.Reference && res.Err == nil && res.Reply != nil {
		res.Reply, res.Err = c.s.spool.resolve(c.owner, res.Reply, c.event, link)
	}
	return res, t
}

// traced is the event as it travels to the step.
func (c *chain) traced() *event.Event {
	if !c.limits.Traced {
		return c.event
	}
	if c.first {
		c.trace, c.limits.Traced = c.event.Trace()
		return c.event
	}
	c.trace = c.trace.Next()
	if own, ok := c.event.Trace(); ok && own.TraceID != c.trace.TraceID {
		return c.event // the step before began another trace: that is its affair
	}
	return c.event.WithTrace(c.trace)
}

// answered goes on with what a step answered: an event for the next one, or
// nothing, which ends the chain.
func (c *chain) answered(reply *event.Event) {
	last := c.at == len(c.slip.calls)-1
	if p := c.event.Payload; p != nil && (reply == nil || reply.Payload != p) {
		c.s.spool.drop(c.owner, p)
	}
	c.at++
	c.first = false
	c.event = reply
	switch {
	case reply == nil:
		c.at = c.end
	case last && c.slip.Discard:
		c.event = nil
	default:
		n := int64(len(reply.Data))
		c.s.memory.Force("", n)
		c.charged += n
	}
}

// failed gives the event back with what was seen of the attempt.
func (c *chain) failed(res egress.Result, t wire.Timing) {
	reason := reasonOf(res)
	c.spill(reason)
	c.outcome.Seen = wire.Seen{Timing: t, Error: res.Err.Error()}
	if reason == wire.Status {
		c.outcome.Seen.Status, c.outcome.Seen.RetryAfter, c.outcome.Seen.Body = res.Status, res.RetryAfter, res.Body
	}
}

// reasonOf tells what a failed attempt is a case of.
func reasonOf(res egress.Result) wire.Reason {
	var timeout net.Error
	switch {
	case errors.Is(res.Err, event.ErrPayloadUnavailable):
		return wire.TooLarge
	case res.Status != 0:
		return wire.Status
	case errors.Is(res.Err, context.DeadlineExceeded), errors.As(res.Err, &timeout) && timeout.Timeout():
		return wire.Timeout
	}
	return wire.Unreachable
}

// spill ends the chain in front of the step at which it stands.
func (c *chain) spill(reason wire.Reason) {
	c.outcome.Kind, c.outcome.Reason, c.outcome.Step = wire.Spilled, reason, c.at
	c.outcome.Event = !c.first // who sent it has it
	c.entered = nil
	if c.first {
		c.event = nil
	}
}

// begin counts the chain.
func (c *chain) begin() {
	c.began = time.Now()
	c.outcome.Ran = c.ran[:0]
	if c.s.Claims != "" {
		c.owner = strconv.FormatUint(c.s.next.Add(1), 36)
	}
}

// close gives back all that the chain holds. The answer was sent, or never will
// be.
func (c *chain) close() {
	if c.placed {
		c.slip.calls[c.at].step.leave()
	}
	c.s.memory.Release("", c.charged)
	c.s.spool.release(c.owner)
	c.s.chains.Add(-1)
}
