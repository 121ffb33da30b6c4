package kafkabackend

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// member is a subscription. The share's lock guards what is not fixed.
type member struct {
	s      *share
	id     uint64
	window int
	buffer int

	held    map[place]*hold
	queue   []*hold // to be received
	bytes   int     // in queue
	readers map[int32]*grantReader
	err     error
	wake    chan struct{} // one place: the queue has something, or err is set
	closing sync.Once
	closed  chan struct{}
}

// hold is a record that a member has not acked; it is the delivery's token.
type hold struct {
	m *member
	place
	delivery *backend.Delivery
	size     int
}

var _ backend.Subscription = (*member)(nil)

// room is how many records more it may hold now.
func (m *member) room() int {
	if m.bytes > 0 && m.bytes >= m.buffer {
		return 0
	}
	return m.window - len(m.held)
}

// give queues a record.
func (m *member) give(p place, d *backend.Delivery, size int) {
	h := &hold{m: m, place: p, delivery: d, size: size}
	d.Token = h
	m.held[p] = h
	m.push(h)
}

func (m *member) push(h *hold) {
	m.queue = append(m.queue, h)
	m.bytes += h.size
	m.signal()
}

func (m *member) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// void forgets all that it holds: others have it now.
func (m *member) void() {
	clear(m.held)
	m.queue, m.bytes = nil, 0
	for _, r := range m.readers {
		r.stop()
	}
	clear(m.readers)
}

func (m *member) fail(err error) {
	if m.err == nil {
		m.err = err
	}
	m.signal()
}

// report is what it holds, by partition.
func (m *member) report() map[int32][]int64 {
	held := make(map[int32][]int64)
	for p := range m.held {
		held[p.partition] = append(held[p.partition], p.offset)
	}
	for _, offsets := range held {
		slices.Sort(offsets)
	}
	return held
}

// Receive implements backend.Subscription.
func (m *member) Receive(ctx context.Context) (*backend.Delivery, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for {
		d, err := m.next()
		if d != nil || err != nil {
			return d, err
		}
		var renewed <-chan struct{}
		if f := m.s.b.fleet; !f.holding() {
			renewed = f.renewed()
			if f.holding() {
				continue
			}
		}
		select {
		case <-m.wake:
		case <-renewed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (m *member) next() (*backend.Delivery, error) {
	s := m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.err != nil {
		m.signal() // for the next one that waits
		return nil, fmt.Errorf("receive: %w", m.err)
	}
	if len(m.queue) == 0 || !s.b.fleet.holding() {
		return nil, nil
	}
	h := m.queue[0]
	m.queue[0] = nil
	m.queue = m.queue[1:]
	m.bytes -= h.size
	if len(m.queue) > 0 {
		m.signal()
	} else {
		m.queue = nil
	}
	d := h.delivery
	h.delivery = nil
	if s.desk != nil {
		s.desk.dispatch() // there is room in the buffer
		s.desk.update()
	}
	if r := m.readers[h.partition]; r != nil {
		r.update()
	}
	return d, nil
}

// Ack implements backend.Subscription.
func (m *member) Ack(d *backend.Delivery) error {
	h, ok := d.Token.(*hold)
	if !ok {
		return fmt.Errorf("ack: a delivery of another backend: %w", backend.ErrNotFound)
	}
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	if m.held[h.place] != h {
		return nil // acked before, or somebody else's by now
	}
	delete(m.held, h.place)
	m.s.ack(m, h.place)
	return nil
}

// Close implements backend.Subscription.
func (m *member) Close() error {
	m.closing.Do(func() {
		defer close(m.closed)
		m.stop(backend.ErrClosed)
	})
	<-m.closed
	return nil
}

// stop ends it, and waits until the others know, unless the broker is away.
func (m *member) stop(why error) {
	s := m.s
	s.mu.Lock()
	m.fail(why)
	s.mu.Unlock()
	s.b.patiently(s.withdraw(m)...)
}

// grantReader reads what the leader of another process gave to a member.
type grantReader struct {
	m       *member
	unit    *unit
	fetcher *fetcher
	waiting []int64 // offsets, in order
	again   map[int64]bool
	looking bool
	stopped bool
	set     wish
}

// wish is what a fetcher was last told.
type wish struct {
	wants  bool
	offset int64
	max    int32
}

// grant adds records for the member to read and hold.
func (m *member) grant(p int32, offsets []int64, again bool) {
	r := m.readers[p]
	if r == nil {
		r = &grantReader{m: m, again: make(map[int64]bool)}
		r.unit = &unit{partition: partition{m.s.log.Topic, p}, take: r.take}
		m.readers[p] = r
	}
	for _, o := range offsets {
		at := place{p, o}
		if m.held[at] != nil {
			continue
		}
		m.held[at] = &hold{m: m, place: at}
		r.waiting = append(r.waiting, o)
		if again {
			r.again[o] = true
		}
	}
	slices.Sort(r.waiting)
	r.update()
}

func (r *grantReader) update() {
	if r.stopped {
		return
	}
	if r.fetcher == nil {
		r.look()
		return
	}
	var w wish
	if len(r.waiting) > 0 {
		w = wish{r.m.bytes == 0 || r.m.bytes < r.m.buffer, r.waiting[0], clampMax(r.m.buffer)}
	}
	if w != r.set {
		r.set = w
		r.fetcher.set(r.unit, w.wants, w.offset, w.max)
	}
}

// look finds the partition's leader.
func (r *grantReader) look() {
	if r.looking {
		return
	}
	r.looking = true
	s := r.m.s
	s.b.crew.Go(func() {
		b := s.b.locate(r.unit.partition, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return r.stopped
		})
		s.mu.Lock()
		defer s.mu.Unlock()
		r.looking = false
		if b != nil && !r.stopped {
			r.fetcher = b.services().fetcher
			r.set = wish{}
			r.update()
		}
	})
}

func (r *grantReader) stop() {
	r.stopped = true
	if r.fetcher != nil {
		r.fetcher.set(r.unit, false, 0, 0)
	}
}

func (r *grantReader) take(f *fetched, offset int64) {
	s := r.m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.stopped || len(r.waiting) == 0 {
		return
	}
	if f.code != 0 {
		if r.fetcher != nil {
			r.fetcher.set(r.unit, false, 0, 0)
		}
		r.fetcher = nil
		s.b.cluster.forget(r.unit.topic)
		if f.start > r.waiting[0] {
			r.expire(f.start)
		}
		r.look()
		return
	}
	if offset != r.waiting[0] {
		return
	}
	b := batchReader{rest: f.records}
	for b.next() {
		var w wireRecord
		for b.record(&w) && len(r.waiting) > 0 {
			r.expire(w.offset)
			if len(r.waiting) > 0 && r.waiting[0] == w.offset && !b.control {
				r.deliver(&w)
			}
		}
		if b.err == nil {
			r.expire(b.last + 1)
		}
	}
	if b.err != nil {
		s.b.config.Logger.Error("kafka: unreadable records", "topic", r.unit.topic, "partition", r.unit.index, "error", b.err)
	}
	r.update()
}

// expire acks what is not there any more, before an offset.
func (r *grantReader) expire(before int64) {
	for len(r.waiting) > 0 && r.waiting[0] < before {
		p := place{r.unit.index, r.waiting[0]}
		r.waiting = r.waiting[1:]
		delete(r.again, p.offset)
		if r.m.held[p] != nil {
			delete(r.m.held, p)
			r.m.s.ack(r.m, p)
		}
	}
}

func (r *grantReader) deliver(w *wireRecord) {
	p := place{r.unit.index, w.offset}
	r.waiting = r.waiting[1:]
	again := r.again[w.offset]
	delete(r.again, w.offset)
	if h := r.m.held[p]; h != nil {
		h.delivery = newDelivery(r.m.s.log, p, w)
		h.delivery.Redelivered = again
		h.delivery.Token = h
		h.size = h.delivery.Size() + sizeOverhead
		r.m.push(h)
	}
}

func clampMax(n int) int32 { return int32(min(max(n, 1), 1<<20)) }
