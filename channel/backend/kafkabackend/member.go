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
	resting func()        // what Rest was given; nil: nobody rests
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

var _ backend.Rester = (*member)(nil)

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
	if wake := m.resting; wake != nil {
		m.resting = nil
		wake()
	}
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

// Rest implements backend.Rester. What comes while the fleet has not seen our beats is
// for Receive to wait for.
func (m *member) Rest(wake func()) bool {
	s := m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.resting = nil; m.err != nil || len(m.queue) > 0 || !s.b.fleet.holding() {
		return false
	}
	m.resting = wake
	return true
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
	ctx, cancel := context.WithTimeout(s.b.life, s.b.closeWait())
	defer cancel()
	s.b.patiently(ctx, s.withdraw(m)...)
}
