package channel

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/claimcheck"
)

// Payloads that nobody needs any more are deleted a while after their record
// was settled:
//
//	record settled --> queue --- discardDelay ---> still one group? --> delete
//	                     '-- full: left to the sweeper       '-- no: left to it, too
//
// The delay is the backends': what was settled when a process is killed may come
// back for as long as the broker has not written it down, and would then come without its
// payload.
const (
	discardDelay   = 10 * time.Second
	finishDelay    = time.Second // when the dispatcher stops
	discardTimeout = 30 * time.Second
	discardQueue   = 8192
	discardAtOnce  = 8
)

// discards deletes payloads, in the order in which they were settled.
type discards struct {
	d     *Dispatcher
	wake  chan struct{} // one place
	mu    sync.Mutex
	queue []discard
}

type discard struct {
	claim claimcheck.Claim
	// log is the channel whose record had it, "" if no record ever did.
	log string
	// groups of log that got the record: the one that settled it, or none, as nobody
	// subscribed.
	groups int
	due    time.Time
}

func (q *discards) add(claim claimcheck.Claim, log string, groups int) {
	q.mu.Lock()
	if len(q.queue) < discardQueue {
		q.queue = append(q.queue, discard{claim, log, groups, time.Now().Add(discardDelay)})
	}
	first := len(q.queue) == 1
	q.mu.Unlock()
	if first {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// take removes what is due at a time, and tells when the next one is.
func (q *discards) take(now time.Time) (due []discard, next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.queue) && !q.queue[n].due.After(now) {
		n++
	}
	due = append(due, q.queue[:n]...)
	q.queue = append(q.queue[:0], q.queue[n:]...)
	if len(q.queue) > 0 {
		return due, q.queue[0].due.Sub(now)
	}
	return due, 0
}

// run deletes until the dispatcher stops working.
func (q *discards) run(ctx context.Context) {
	for {
		due, next := q.take(time.Now())
		q.delete(ctx, due)
		var later <-chan time.Time
		if next > 0 {
			later = time.After(next)
		} else if len(due) > 0 {
			continue // something may have come meanwhile
		}
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		case <-later:
		}
	}
}

// finish deletes what is left, due or not, until ctx ends. By then the
// subscriptions are closed. It leaves the backend a moment to write down what was
// settled last: the process may be killed while it stops.
func (q *discards) finish(ctx context.Context) {
	q.mu.Lock()
	left := len(q.queue)
	q.mu.Unlock()
	if left == 0 || !sleep(ctx, finishDelay) {
		return
	}
	due, _ := q.take(time.Now().Add(discardDelay))
	q.delete(ctx, due)
}

func (q *discards) delete(ctx context.Context, due []discard) {
	if len(due) == 0 {
		return
	}
	var g errgroup.Group
	g.SetLimit(discardAtOnce)
	for i := range due {
		if !q.alone(&due[i]) {
			continue
		}
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, discardTimeout)
			defer cancel()
			// What fails was observed, and is left to the sweeper.
			_, _ = q.d.Claims.room.Discard(ctx, due[i].claim)
			return nil
		})
	}
	_ = g.Wait()
}

// alone tells whether no other group can have got the record. Whoever makes another group tells the table before (Channel.Shared): a
// record that it gets, too, was published after that, and settled here later still.
func (q *discards) alone(d *discard) bool {
	if d.log == "" {
		return true
	}
	v := q.d.Hold()
	defer v.Release()
	c := v.byLog(d.log)
	return c != nil && len(c.Subscriptions) == d.groups && !c.Shared
}

// payloads is what a task knows of the stored payloads that it came to hold.
type payloads struct {
	// made are those of answers, which no record has yet.
	made []claimcheck.Claim
	// published are the objects that may be in a record by now.
	published []string
	moved     moved
}

// moved is an event whose payload was stored anew for another namespace.
type moved struct {
	event *event.Event
	log   string
	to    *event.Event
}

// answered notes the payload of an answer to an event.
func (p *payloads) answered(entering, reply event.Payload) {
	r, ok := reply.(*claimed)
	if !ok {
		return
	}
	if e, ok := entering.(*claimed); ok && e.claim.Object == r.claim.Object {
		return // passed on unchanged
	}
	p.made = append(p.made, r.claim)
}

// publishing notes a payload that a record is about to carry; whether the
// publish succeeds need not be certain.
func (p *payloads) publishing(x event.Payload) {
	if c, ok := x.(*claimed); ok {
		p.published = append(p.published, c.claim.Object)
	}
}

// release hands over for deletion what nobody else can hold, once the record was
// settled or given back. head is what the record had, log where it was.
func (p *payloads) release(q *discards, ending Ending, head event.Payload, log string) {
	for _, c := range p.made {
		if !slices.Contains(p.published, c.Object) {
			q.add(c, "", 0)
		}
	}
	h, ok := head.(*claimed)
	if !ok || slices.Contains(p.published, h.claim.Object) {
		return
	}
	switch ending {
	case Completed, Replied, Spilled, Dropped:
		q.add(h.claim, log, 1)
	case DeadLettered, Poisoned, GivenBack:
		// It comes back, or somebody may want to look into what became of it.
	}
}
