package natsbackend

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// How long a request for records stays with the broker, and how often it gives
// a sign of life meanwhile. One that is silent for longer is lost: with a node of
// a cluster to which we are not connected.
const (
	pullExpires   = 2 * time.Minute
	pullHeartbeat = 15 * time.Second
	pullSilence   = 2*pullHeartbeat + 5*time.Second
	// pullEnding is how long records may take that were sent before the word
	// that a request is over and come after it.
	pullEnding = 2 * time.Second
	// pullLargeExpires is for a record that is known to be there.
	pullLargeExpires = time.Second
	// pullPause is between requests that the broker cannot serve.
	pullPause = 250 * time.Millisecond
)

// maxPulls: with two requests the broker always has one to serve while the
// answer to the other is on its way.
const maxPulls = 2

// demand is what a member has asked the broker for. Requests are served in the
// order in which they came there. Guarded by member.mu.
type demand struct {
	pulls []pull
	asked int // records, of all pulls
	last  uint64
	// oversize: the next record is larger than a request's limit in bytes,
	// and is fetched by itself, without one.
	oversize bool
	queued   bool // for a place of Backend.large
	notUntil time.Time
}

// pull is one request: for some records, up to some bytes; and what is left
// of both.
type pull struct {
	id          uint64
	batch, left int
	bytes       int
	large       bool
	ending      bool // the broker said that it is over; records may be on their way
	alive       time.Time
}

// got counts a record. It tells whether it is one that was asked for by
// itself: its place in Backend.large is the record's from then on.
func (d *demand) got(size int, now time.Time) (large bool) {
	if len(d.pulls) == 0 {
		return false
	}
	p := &d.pulls[0]
	p.left--
	p.bytes -= size
	d.asked--
	p.alive = now
	if p.left > 0 {
		return false
	}
	large = p.large
	d.pulls = d.pulls[1:]
	return large
}

// over ends the request id, of which so many records will not come any more; the
// others did, or are on their way still. A consumer with replicas sends a record
// when they have heard of it, and so after the word that it was the last.
func (d *demand) over(id uint64, undelivered int, now time.Time) (p pull, known, ended bool) {
	for i := range d.pulls {
		if d.pulls[i].id != id {
			continue
		}
		p = d.pulls[i]
		undelivered = max(0, min(undelivered, p.left))
		d.asked -= undelivered
		if p.left == undelivered {
			d.pulls = append(d.pulls[:i:i], d.pulls[i+1:]...)
			return p, true, true
		}
		d.pulls[i].left -= undelivered
		d.pulls[i].alive, d.pulls[i].ending = now, true
		return p, true, false
	}
	return pull{}, false, false
}

// forget drops all requests. With m.mu held.
func (m *member) forget() {
	for i := range m.demand.pulls {
		if m.demand.pulls[i].large {
			<-m.b.large
		}
	}
	m.demand.pulls, m.demand.asked = nil, 0
}

// expire drops them if nothing was heard of the first for too long.
func (m *member) expire(now time.Time) {
	// Which of two requests a record was for is a guess: one that is over may
	// seem to lack what the other seems to have had.
	d := &m.demand
	for i := 0; i < len(d.pulls); i++ {
		if p := d.pulls[i]; p.ending && now.Sub(p.alive) > pullEnding {
			if d.asked -= p.left; p.large {
				<-m.b.large
			}
			d.pulls = append(d.pulls[:i:i], d.pulls[i+1:]...)
			i--
		}
	}
	silence := pullSilence
	if m.b.config.Server != nil {
		silence *= 2
	}
	if p := m.demand.pulls; len(p) > 0 && now.Sub(p[0].alive) > silence {
		m.forget()
	}
}

// ask requests more records if there is room for them. With m.mu held.
func (m *member) ask() {
	if m.err != nil || m.order != nil && !m.order.mayDeliver() {
		return
	}
	d := &m.demand
	free := m.window - len(m.held) - d.asked
	if free <= 0 || len(d.pulls) >= maxPulls || !d.notUntil.IsZero() && time.Now().Before(d.notUntil) {
		return
	}
	if d.oversize {
		m.askLarge()
		return
	}
	half := m.buffer / maxPulls
	switch len(d.pulls) {
	case 0:
		// A few free places are worth a request only if nothing is left.
		if free < m.window/8 && len(m.ready) > 0 {
			return
		}
		if m.readyBytes+half > m.buffer && m.readyBytes > 0 {
			return // too much has not been received yet
		}
		m.pull(pull{batch: (free + 1) / 2, bytes: half})
	case 1:
		// Only if the other one is well on its way.
		p := &d.pulls[0]
		if (p.left > p.batch/2 && p.bytes > half/2) || free < m.window/8 {
			return
		}
		if m.readyBytes+max(0, p.bytes)+half > m.buffer {
			return
		}
		m.pull(pull{batch: free, bytes: half})
	}
}

// askLarge requests one record of whatever size, once few enough others do, and
// only for a Receive that waits for it: one that nobody comes for would keep its
// place from the others.
func (m *member) askLarge() {
	if m.waiting == 0 || len(m.demand.pulls) > 0 || m.demand.queued {
		return
	}
	select {
	case m.b.large <- struct{}{}:
		m.pullLarge()
	default:
		m.demand.queued = m.b.spawn(m.queueLarge)
	}
}

func (m *member) queueLarge() {
	select {
	case m.b.large <- struct{}{}:
	case <-m.b.ctx.Done():
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.demand.queued = false
	if m.err != nil || m.waiting == 0 || len(m.demand.pulls) > 0 || m.order != nil && !m.order.mayDeliver() {
		<-m.b.large
		m.ask()
		return
	}
	m.pullLarge()
}

// pullLarge has a place in Backend.large. The record was there a moment ago: if
// another member took it, the request ends soon.
func (m *member) pullLarge() {
	m.demand.oversize = false
	if !m.pull(pull{batch: 1, large: true}) {
		<-m.b.large
		m.demand.oversize = true
	}
}

// returnLarge gives back a large record whose Receive was cancelled before it
// came, if none has come for it since tend last looked. With m.mu held.
func (m *member) returnLarge() {
	if m.waiting > 0 {
		return
	}
	kept := m.ready[:0]
	for _, h := range m.ready {
		switch {
		case !h.large || !h.idle:
			h.idle = h.large
		case m.order != nil:
			m.freeLarge(h) // what came after it must not overtake it
		default:
			_ = m.b.nc.Publish(h.reply, nak)
			m.readyBytes -= len(h.msg.Data)
			m.freeLarge(h)
			delete(m.held, h.meta.sequence)
			m.demand.oversize = true
			continue
		}
		kept = append(kept, h)
	}
	clear(m.ready[len(kept):])
	m.ready = kept
}

// pull sends a request. One for a large record has no limit in bytes.
func (m *member) pull(p pull) bool {
	d := &m.demand
	d.last++
	p.id, p.left, p.alive = d.last, p.batch, time.Now()
	expires, heartbeat := pullExpires, pullHeartbeat
	switch {
	case p.large:
		expires, heartbeat = pullLargeExpires, 0
	case m.b.config.Server != nil:
		heartbeat *= 2 // the server's silence would be that of this process
	case m.order != nil:
		// If this process is stopped, what it asked for must not take from
		// the next leader what comes back.
		expires = min(expires, m.order.lease.ttl/2)
		if expires < 2*heartbeat {
			heartbeat = 0 // the broker takes none; that it is over is a sign of life
		}
	}
	if !m.request(p.id, p.batch, p.bytes, expires, heartbeat) {
		d.notUntil = time.Now().Add(pullPause)
		return false
	}
	d.pulls = append(d.pulls, p)
	d.asked += p.batch
	return true
}

// request is a pull request (NATS ADR-13).
func (m *member) request(id uint64, batch, maxBytes int, expires, heartbeat time.Duration) bool {
	var buf [160]byte
	q := strconv.AppendInt(append(buf[:0], `{"batch":`...), int64(batch), 10)
	if maxBytes > 0 {
		q = strconv.AppendInt(append(q, `,"max_bytes":`...), int64(maxBytes), 10)
	}
	q = strconv.AppendInt(append(q, `,"expires":`...), int64(expires), 10)
	if heartbeat > 0 {
		q = strconv.AppendInt(append(q, `,"idle_heartbeat":`...), int64(heartbeat), 10)
	}
	q = append(q, '}')
	return m.b.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+m.stream+"."+m.consumer,
		m.inbox+strconv.FormatUint(id, 36), q) == nil
}

// status reads what the broker says of a request. With m.mu held.
func (m *member) status(msg *nats.Msg) {
	id, err := strconv.ParseUint(strings.TrimPrefix(msg.Subject, m.inbox), 36, 64)
	if err != nil || m.err != nil {
		return
	}
	code, text := msg.Header.Get("Status"), msg.Header.Get("Description")
	if code == "100" {
		for i := range m.demand.pulls {
			m.demand.pulls[i].alive = time.Now()
		}
		return
	}
	undelivered, err := strconv.Atoi(msg.Header.Get("Nats-Pending-Messages"))
	if err != nil || m.b.config.Replicas == 1 { // what was delivered is here
		undelivered = math.MaxInt
	}
	p, known, ended := m.demand.over(id, undelivered, time.Now())
	if ended && p.large {
		<-m.b.large
	}
	switch {
	case code == "404" || code == "408":
		// Nothing came within its time.
	case strings.Contains(text, "Exceeds MaxBytes"):
		// The next record does not fit into what is left of the request's
		// bytes. If that is all of them, it fits into no other either.
		m.demand.oversize = known && msg.Header.Get("Nats-Pending-Bytes") == strconv.Itoa(m.buffer/maxPulls)
	case strings.Contains(text, "Batch Completed"):
	default:
		// The consumer was deleted, its leader moves, nobody serves
		// JetStream just now …
		m.demand.notUntil = time.Now().Add(pullPause)
		if !m.verifying {
			m.verifying = m.b.spawn(m.verify)
		}
	}
	if m.order != nil && m.order.phase.Load() == recovering {
		m.order.nudge()
	}
	m.ask()
}

// proveAfter is how long the first request of an inbox may go without a word.
const proveAfter = 3 * time.Second

// prove looks whether the consumer is there if nothing was heard since the first
// request: it may have been deleted just before that came. With m.mu held.
func (m *member) prove(now time.Time) {
	if !m.unproven.IsZero() && now.Sub(m.unproven) > proveAfter && !m.verifying {
		m.unproven = time.Time{}
		m.verifying = m.b.spawn(m.verify)
	}
}

// verify ends the member if its consumer is gone. It asks until it knows: a
// request to a consumer that is gone is not answered.
func (m *member) verify() {
	for {
		_, err := m.b.consumerInfo(m.b.ctx, m.entry.shard, m.consumer)
		if errors.Is(err, backend.ErrNotFound) {
			m.end(backend.ErrNotFound)
			return
		}
		if err == nil || !sleep(m.b.ctx, pullPause) {
			break
		}
	}
	m.mu.Lock()
	m.verifying = false
	m.mu.Unlock()
}
