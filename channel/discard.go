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
//	record settled --> queue --- discardDelay ---> still one group, and the broker answers? --> delete
//	                     '-- full: left to the sweeper                           '-- no: left to it, too
//
// The delay is for records that refer to it all the same: one that a killed process
// had published on and not settled comes back within a backend's redelivery time (10 s),
// when the next one that its payload went on to may have been settled long ago. What
// comes back later has come to its end before, and comes without its payload.
const (
	discardDelay   = 30 * time.Second
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
	// group that settled the record, "" if there was none, as nobody subscribed;
	// and when the record was stored.
	group  string
	stored time.Time
	due    time.Time
}

func (q *discards) add(d discard) {
	d.due = time.Now().Add(discardDelay)
	q.mu.Lock()
	if len(q.queue) < discardQueue {
		q.queue = append(q.queue, d)
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
	settled := q.settled(ctx, due)
	for i := range due {
		if !q.alone(&due[i]) || !settled(&due[i]) {
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
	groups := 1
	if d.group == "" {
		groups = 0
	}
	return c != nil && len(c.Subscriptions) == groups && !c.Shared
}

// settled asks the backend what it knows of the groups. An ack is sent and not
// confirmed: one that was sent over a connection that has broken since is lost, and its
// record comes back. Who gets an answer now has been heard before.
func (q *discards) settled(ctx context.Context, due []discard) func(*discard) bool {
	type key struct{ log, group string }
	oldest := make(map[key]time.Time)
	for i := range due {
		k := key{due[i].log, due[i].group}
		if _, asked := oldest[k]; asked || k.group == "" {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, discardTimeout)
		if lag, err := q.d.Backend.Lag(limited, k.log, k.group); err == nil {
			oldest[k] = lag.Oldest
		}
		cancel()
	}
	return func(d *discard) bool {
		at, known := oldest[key{d.log, d.group}]
		return d.group == "" || known && !at.Equal(d.stored)
	}
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
// settled or given back. head is what the record had, from is which one it was.
func (p *payloads) release(q *discards, ending Ending, head event.Payload, from discard) {
	for _, c := range p.made {
		if !slices.Contains(p.published, c.Object) {
			q.add(discard{claim: c})
		}
	}
	h, ok := head.(*claimed)
	if !ok || slices.Contains(p.published, h.claim.Object) {
		return
	}
	switch ending {
	case Completed, Replied, Spilled, Dropped:
		from.claim = h.claim
		q.add(from)
	case DeadLettered, Poisoned, GivenBack:
		// It comes back, or somebody may want to look into what became of it.
	}
}
