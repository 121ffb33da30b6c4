package natsbackend

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

const (
	defaultWindow = 64
	defaultBuffer = 64 << 10
	minBuffer     = 1 << 10 // what a request can sensibly be limited to
)

// What a record's holder tells the broker.
var (
	ack        = []byte("+ACK")
	nak        = []byte("-NAK")
	inProgress = []byte("+WPI")
)

// member is a backend.Subscription: one of those who share a consumer.
type member struct {
	b                *Backend
	entry            entry
	stream, consumer string
	window, buffer   int
	inbox            string // with a trailing dot
	sub              *nats.Subscription

	// signal wakes one Receive, which wakes the next if there is more.
	signal chan struct{}

	mu sync.Mutex // guards what follows
	// held are the records that the broker believes we have, by sequence.
	held map[uint64]*holding
	// ready are those of them that nobody has received yet, in order.
	ready      []*holding
	readyBytes int
	recent     recent
	turned     time.Time // when recent was
	demand     demand
	waiting    int    // calls of Receive that wait, and one for resting
	resting    func() // what Rest was given; nil: nobody rests
	verifying  bool   // whether the consumer is still there
	// unproven is since when nothing has come to the inbox, if nothing has.
	unproven time.Time
	order    *order // nil unless the log is ordered
	err      error  // why it has ended
}

var _ backend.Rester = (*member)(nil)

// holding is a record that was delivered to us and is not acked.
type holding struct {
	m     *member
	meta  metadata
	reply string
	msg   *nats.Msg // nil once it was received
	// touched is when the broker last heard of it.
	touched time.Time
	// acked, but the broker could not be told yet.
	acked bool
	// lost: the member of an ordered log no longer had the lease while this
	// was received and not acked, so that it went back to the group.
	lost  bool
	large bool // holds a place of Backend.large
	idle  bool // it did already when tend last looked
}

// Subscribe implements backend.Subscriber.
func (b *Backend) Subscribe(ctx context.Context, log, group string, o backend.Options) (backend.Subscription, error) {
	e, err := b.catalog.fetch(ctx, log)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	m := &member{
		b: b, entry: e,
		stream:   b.names.shardStream(e.shard),
		consumer: consumer(e.Incarnation, group),
		window:   o.Window,
		buffer:   o.Buffer,
		inbox:    nats.NewInbox() + ".",
		signal:   make(chan struct{}, 1),
		held:     make(map[uint64]*holding),
		unproven: time.Now(),
	}
	if m.window <= 0 {
		m.window = defaultWindow
	}
	if m.buffer <= 0 {
		m.buffer = defaultBuffer
	}
	m.buffer = max(m.buffer, minBuffer)
	if _, err := b.consumerInfo(ctx, m.entry.shard, m.consumer); err != nil {
		return nil, fmt.Errorf("subscribe to group %s of log %q: %w", group, log, err)
	}
	if e.Ordered {
		m.order = newOrder(m)
	}
	if err := b.join(m); err != nil {
		return nil, fmt.Errorf("subscribe: %w", sendError(err))
	}
	if m.order != nil {
		if !b.spawn(m.order.run) {
			b.leave(m)
			return nil, fmt.Errorf("subscribe: %w", backend.ErrClosed)
		}
		return m, nil
	}
	m.mu.Lock()
	m.ask()
	m.mu.Unlock()
	return m, nil
}

// Receive implements backend.Subscription.
func (m *member) Receive(ctx context.Context) (*backend.Delivery, error) {
	for waited := false; ; waited = true {
		d, err := m.next(waited)
		if d != nil || err != nil {
			return d, err
		}
		select {
		case <-m.signal:
		case <-ctx.Done():
			m.mu.Lock()
			m.waiting--
			m.mu.Unlock()
			return nil, ctx.Err()
		}
	}
}

// next takes the first record that is ready. If there is none, its caller is
// counted as waiting, until it says that it has waited.
func (m *member) next(waited bool) (*backend.Delivery, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if waited {
		m.waiting--
	}
	if m.err != nil {
		m.wake() // the others too
		return nil, m.err
	}
	if m.mustWait() {
		if m.waiting++; m.demand.oversize {
			m.ask()
		}
		return nil, nil
	}
	h := m.ready[0]
	m.ready[0] = nil
	if m.ready = m.ready[1:]; len(m.ready) == 0 {
		m.ready = nil // its array may be long
	} else {
		m.wake()
	}
	m.readyBytes -= len(h.msg.Data)
	d := h.delivery()
	h.msg = nil
	m.freeLarge(h)
	m.ask()
	return d, nil
}

// mustWait tells whether there is nothing to receive. With m.mu held.
func (m *member) mustWait() bool {
	return len(m.ready) == 0 || m.order != nil && !m.order.mayDeliver()
}

// Rest implements backend.Rester.
func (m *member) Rest(wake func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil || !m.mustWait() {
		return false
	}
	if m.resting == nil {
		m.waiting++
	}
	if m.resting = wake; m.demand.oversize {
		m.ask()
	}
	return true
}

func (h *holding) delivery() *backend.Delivery {
	d := &backend.Delivery{
		Incarnation: h.m.entry.Incarnation,
		Offset:      h.meta.sequence,
		Redelivered: h.meta.delivered > 1,
		Stored:      h.meta.stored,
		Token:       h,
	}
	if err := decodeMessage(h.msg.Data, h.msg.Subject[0] == mark, &d.Record); err != nil {
		// It is handed on as it is, for the caller to refuse: it would come
		// back for ever otherwise.
		h.m.b.config.Logger.Error("a record on the log cannot be read",
			"log", h.m.entry.Name, "offset", d.Offset, "error", err)
		d.Record = backend.Record{Data: h.msg.Data}
	}
	return d
}

// wake has one who waits look again, and whoever rests. With m.mu held.
func (m *member) wake() {
	if wake := m.resting; wake != nil {
		m.resting = nil
		m.waiting--
		wake()
	}
	select {
	case m.signal <- struct{}{}:
	default:
	}
}

// Ack implements backend.Subscription.
func (m *member) Ack(d *backend.Delivery) error {
	h, ok := d.Token.(*holding)
	if !ok || h.m != m {
		return nil // of a subscription that was closed: it is back in the group
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held[h.meta.sequence] != h || h.acked {
		return nil
	}
	m.settle(h)
	m.ask()
	return nil
}

// settle tells the broker. If it cannot be told now, it is at the next chance.
func (m *member) settle(h *holding) {
	h.acked = m.b.nc.Publish(h.reply, ack) != nil
	if !h.acked {
		delete(m.held, h.meta.sequence)
		m.recent.add(h.meta.sequence)
	}
}

// Close implements backend.Subscription.
func (m *member) Close() error {
	m.end(backend.ErrClosed)
	if m.order != nil {
		<-m.order.done
	}
	return nil
}

// end gives back all that is held, and has every Receive return err.
func (m *member) end(err error) {
	m.mu.Lock()
	if m.err != nil {
		m.mu.Unlock()
		return
	}
	m.err = err
	m.mu.Unlock()
	// In this order: what is given back must not be sent to us again.
	m.b.leave(m)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.giveBack()
	m.forget()
	if m.order != nil {
		m.order.stop()
	}
	m.wake()
}

// giveBack returns all records to the group; the acked ones as acked.
func (m *member) giveBack() {
	for s, h := range m.held {
		answer := nak
		if h.acked {
			answer = ack
		}
		_ = m.b.nc.Publish(h.reply, answer) // or they come back after AckWait
		m.freeLarge(h)
		delete(m.held, s)
	}
	m.ready, m.readyBytes = nil, 0
}

func (m *member) freeLarge(h *holding) {
	if h.large {
		h.large = false
		<-m.b.large
	}
}

// arrive takes a message: a record, or word of what became of a request.
func (m *member) arrive(msg *nats.Msg) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unproven = time.Time{}
	if msg.Reply == "" {
		m.status(msg)
		return
	}
	if msg.Sub != m.sub {
		// It was asked for by an inbox that was given up since, and counts no more.
		_ = m.b.nc.Publish(msg.Reply, nak)
		return
	}
	meta, ok := parseReply(msg.Reply)
	switch {
	case !ok:
		m.b.config.Logger.Error("message with an unknown reply subject", "reply", msg.Reply)
		return
	case m.err != nil || m.order != nil && !m.order.arrived(meta):
		_ = m.b.nc.Publish(msg.Reply, nak)
		return
	}
	now := time.Now()
	large := m.demand.got(msg.Size(), now)
	if m.again(msg, meta) {
		if large {
			<-m.b.large
		}
		m.ask()
		return
	}
	h := &holding{m: m, meta: meta, reply: msg.Reply, msg: msg, touched: now, large: large}
	m.held[meta.sequence] = h
	m.ready = append(m.ready, h)
	m.readyBytes += len(msg.Data)
	m.wake()
	if m.order != nil && m.order.phase.Load() == recovering {
		m.order.nudge()
	}
	m.ask()
}

// again deals with a record that we have or had: the broker has not heard of it
// for too long, or not yet.
func (m *member) again(msg *nats.Msg, meta metadata) bool {
	h := m.held[meta.sequence]
	if h == nil {
		if m.recent.has(meta.sequence) {
			_ = m.b.nc.Publish(msg.Reply, ack)
			return true
		}
		return false
	}
	h.reply, h.touched, h.lost = msg.Reply, time.Now(), false
	if h.acked {
		m.settle(h)
	} else {
		_ = m.b.nc.Publish(h.reply, inProgress)
	}
	return true
}

// tend is called every now and then: it keeps what is held from being given to
// others, and asks again where a request was lost.
func (m *member) tend(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return
	}
	stale := now.Add(-m.b.config.AckWait / 3)
	for _, h := range m.held {
		switch {
		case h.acked:
			m.settle(h)
		case h.lost:
			// It comes back, to us or to whoever has the lease.
		case h.touched.Before(stale) && (m.order == nil || m.order.leads()):
			if m.b.nc.Publish(h.reply, inProgress) == nil {
				h.touched = now
			}
		}
	}
	m.expire(now)
	m.prove(now)
	m.returnLarge()
	// While there is no connection nothing comes back that it could know.
	if now.Sub(m.turned) > m.b.config.AckWait && m.b.nc.IsConnected() {
		m.recent.turn()
		m.turned = now
	}
	m.ask()
}

func (m *member) disconnected() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget()
	if m.order != nil {
		m.order.doubt()
	}
}

func (m *member) reconnected() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget()
	// What was asked for by the old inbox may stand there still, beside what
	// is asked for now: together they would exceed the window.
	m.b.rejoin(m)
	m.ask()
}
