package natsbackend

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// order makes a member of an ordered log wait for its turn, and deliver what
// others left unacked before anything newer.
//
//	waiting --lease--> recovering --all that is unacked is here--> delivering
//	   ^                   ^                                         |   |
//	   |                   +---- a delivery went missing ------------+   |
//	   +------------------------- lease lost ----------------------------+
//
// One member of a group at a time has the lease. When it dies, the broker
// forgets the lease only after AckWait, so that by then all it held has come
// back to the group.
type order struct {
	m     *member
	lease *lease
	phase atomic.Int32
	until atomic.Int64 // unix nanoseconds: when the lease may end
	// last is the number of the last delivery: a gap means that one was sent
	// and did not arrive. Guarded by member.mu.
	last   uint64
	wakeup chan struct{}

	ctx  context.Context //nolint:containedctx // the member's life
	stop context.CancelFunc
	done chan struct{}
}

const (
	waiting int32 = iota
	recovering
	delivering
)

// leaseSlack is for what a holder does between a look at the lease and what it
// does because of it.
const leaseSlack = 2 * time.Second

// recoverPull is how long a request waits while a member recovers.
const recoverPull = time.Second

func newOrder(m *member) *order {
	o := &order{
		m:      m,
		lease:  m.b.newLease(m.consumer, m.b.config.AckWait+leaseSlack),
		wakeup: make(chan struct{}, 1),
		done:   make(chan struct{}),
	}
	o.ctx, o.stop = context.WithCancel(m.b.ctx)
	// Two members of one connection are two holders.
	o.lease.holder = []byte(m.inbox)
	return o
}

func (o *order) leads() bool { return time.Now().UnixNano() < o.until.Load() }

// mayDeliver: what is ready is in order, what is asked for follows it, and nobody
// else delivers.
func (o *order) mayDeliver() bool { return o.phase.Load() == delivering && o.leads() }

// arrived looks at a delivery; false: it is not wanted. With m.mu held.
func (o *order) arrived(meta metadata) bool {
	if o.phase.Load() == waiting {
		return false
	}
	if o.phase.Load() == delivering && meta.delivery != o.last+1 {
		o.doubt()
	}
	o.last = meta.delivery
	return true
}

// doubt: something may have been sent that did not arrive. What is ready waits
// until it has come again. With m.mu held.
func (o *order) doubt() {
	if o.phase.CompareAndSwap(delivering, recovering) {
		o.nudge()
	}
}

// nudge has run look again.
func (o *order) nudge() {
	select {
	case o.wakeup <- struct{}{}:
	default:
	}
}

// run leads the member through its phases until it ends.
func (o *order) run() {
	defer close(o.done)
	defer o.giveUp()
	poll := min(500*time.Millisecond, o.m.b.config.AckWait/4)
	for o.ctx.Err() == nil {
		if !o.renew() {
			sleep(o.ctx, poll)
			continue
		}
		if o.phase.Load() != delivering && !o.recover() {
			sleep(o.ctx, poll)
			continue
		}
		t := time.NewTimer(o.lease.ttl / 4)
		select {
		case <-t.C:
		case <-o.wakeup:
		case <-o.ctx.Done():
		}
		t.Stop()
	}
}

// renew gets or keeps the lease.
func (o *order) renew() bool {
	switch err := o.lease.acquire(o.ctx); {
	case err == nil:
		o.until.Store(o.lease.until.Add(-leaseSlack / 2).UnixNano())
		o.phase.CompareAndSwap(waiting, recovering)
		// A Receive that came when the lease was nearly over waits, though
		// there may be records.
		o.m.mu.Lock()
		if len(o.m.ready) > 0 {
			o.m.wake()
		}
		o.m.mu.Unlock()
		return true
	case errors.Is(err, errConflict), !o.leads():
		o.stepDown()
	}
	return false
}

// stepDown lets go of what was not received yet. What was received is its
// holder's, who may still ack it.
func (o *order) stepDown() {
	if o.phase.Swap(waiting) == waiting {
		return
	}
	m := o.m
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.ready {
		_ = m.b.nc.Publish(h.reply, nak)
		m.freeLarge(h)
		delete(m.held, h.meta.sequence)
	}
	m.ready, m.readyBytes = nil, 0
	for _, h := range m.held {
		h.lost = true
	}
	m.forget()
	m.b.rejoin(m) // so that the broker forgets as well
}

// giveUp is the end: the member has given back what it held.
func (o *order) giveUp() {
	o.phase.Store(waiting)
	o.until.Store(0)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// The broker reads what a connection sends in order: what was given back
	// is in the group before anybody else has the lease.
	o.lease.release(ctx)
}

// recover fetches until all that the group has unacked is held here, and then
// has it delivered in the log's order.
func (o *order) recover() bool {
	for n := 0; o.ctx.Err() == nil && o.phase.Load() == recovering; n++ {
		if n > 0 && !o.renew() {
			return false
		}
		i, err := o.m.b.consumerInfo(o.ctx, o.m.entry.shard, o.m.consumer)
		if err != nil {
			if errors.Is(err, backend.ErrNotFound) {
				o.m.end(backend.ErrNotFound)
			}
			return false
		}
		missing := o.complete(i.NumAckPending, i.Delivered)
		if missing == 0 {
			return true
		}
		if n > 1 {
			// What is missing has yet to come back; until then the broker
			// would send newer ones.
			sleep(o.ctx, o.m.b.config.AckWait/8)
		}
		o.fetch(missing)
	}
	return false
}

// complete begins deliveries if the member holds all that is unacked, pending
// records as of the last one given, and returns how many it lacks.
func (o *order) complete(pending int, last jetstream.SequenceInfo) int {
	m := o.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if held := m.holds(last.Stream); pending > held {
		return pending - held
	}
	if len(m.demand.pulls) > 0 {
		return 1 // a record may be on its way to us
	}
	slices.SortFunc(m.ready, func(a, b *holding) int {
		if a.meta.sequence < b.meta.sequence {
			return -1
		}
		return 1
	})
	o.last = last.Consumer
	o.phase.CompareAndSwap(recovering, delivering)
	m.wake()
	m.ask()
	return 0
}

// holds counts the records up to one that are here, not those that went back
// meanwhile: others may have them, or have settled them. With m.mu held.
func (m *member) holds(last uint64) int {
	n := 0
	for sequence, h := range m.held {
		if !h.lost && sequence <= last {
			n++
		}
	}
	return n
}

// fetch asks for n records and waits until they are here or the request is
// over. The broker sends those that came back first, then newer ones, which
// wait with us.
func (o *order) fetch(n int) {
	m := o.m
	if !o.request(n) {
		sleep(o.ctx, pullPause)
		return
	}
	t := time.NewTimer(recoverPull + recoverPull/2)
	defer t.Stop()
	for {
		select {
		case <-o.wakeup:
		case <-t.C:
			m.mu.Lock()
			m.forget()
			m.b.rejoin(m) // what comes late does not count
			m.mu.Unlock()
		case <-o.ctx.Done():
			return
		}
		m.mu.Lock()
		open := len(m.demand.pulls) > 0
		m.mu.Unlock()
		if !open {
			return
		}
	}
}

// request leaves a request that is open as it is.
func (o *order) request(n int) bool {
	m := o.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.demand.pulls) > 0 {
		return true
	}
	m.demand.last++
	p := pull{id: m.demand.last, batch: n, left: n, alive: time.Now()}
	if !m.request(p.id, n, 0, recoverPull, 0) {
		return false
	}
	m.demand.pulls, m.demand.asked = append(m.demand.pulls, p), n
	return true
}
