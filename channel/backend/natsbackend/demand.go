package natsbackend

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// How long a request for records stays with the broker, and how often it gives
// a sign of life meanwhile. One that is silent for longer is lost.
const (
	pullExpires   = 2 * time.Minute
	pullHeartbeat = 30 * time.Second
	pullSilence   = 2*pullHeartbeat + 5*time.Second
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
	notUntil time.Time
}

// pull is one request: for some records, up to some bytes.
type pull struct {
	id          uint64
	batch, left int
	large       bool
	alive       time.Time
}

// got counts a record. It tells whether it is one that was asked for by
// itself: its place in Backend.large is the record's from then on.
func (d *demand) got() (large bool) {
	if len(d.pulls) == 0 {
		return false
	}
	p := &d.pulls[0]
	p.left--
	d.asked--
	p.alive = time.Now()
	if p.left > 0 {
		return false
	}
	large = p.large
	d.pulls = d.pulls[1:]
	return large
}

// over ends the request id, and returns it.
func (d *demand) over(id uint64) (pull, bool) {
	for i, p := range d.pulls {
		if p.id == id {
			d.pulls = append(d.pulls[:i:i], d.pulls[i+1:]...)
			d.asked -= p.left
			return p, true
		}
	}
	return pull{}, false
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
	if p := m.demand.pulls; len(p) > 0 && now.Sub(p[0].alive) > pullSilence {
		m.forget()
	}
}

// ask requests more records if there is room for them. With m.mu held.
func (m *member) ask() {
	if m.err != nil || m.order != nil && !m.order.mayAsk() {
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
	half := max(1, m.buffer/maxPulls)
	if m.readyBytes+(len(d.pulls)+1)*half > m.buffer && m.readyBytes+len(d.pulls) > 0 {
		return // too much has not been received yet
	}
	switch len(d.pulls) {
	case 0:
		// A few free places are worth a request only if nothing is left.
		if free < m.window/8 && len(m.ready) > 0 {
			return
		}
		m.pull(pull{batch: (free + 1) / 2}, half)
	case 1:
		// The other one is well on its way.
		if p := &d.pulls[0]; p.left <= p.batch/2 && (free >= m.window/8 || p.left == 0) {
			m.pull(pull{batch: free}, half)
		}
	}
}

// askLarge requests one record of whatever size, if few others do.
func (m *member) askLarge() {
	if len(m.demand.pulls) > 0 {
		return
	}
	select {
	case m.b.large <- struct{}{}:
	default:
		m.demand.notUntil = time.Now().Add(pullPause / 5)
		return
	}
	m.demand.oversize = false
	if !m.pull(pull{batch: 1, large: true}, 0) {
		<-m.b.large
		m.demand.oversize = true
	}
}

// pull sends a request. maxBytes 0: any size.
func (m *member) pull(p pull, maxBytes int) bool {
	d := &m.demand
	d.last++
	p.id, p.left, p.alive = d.last, p.batch, time.Now()
	if !m.request(p.id, p.batch, maxBytes, pullExpires, pullHeartbeat) {
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
	p, known := m.demand.over(id)
	if known && p.large {
		<-m.b.large
	}
	switch {
	case code == "404" || code == "408":
		// Nothing came within its time.
	case strings.Contains(text, "Exceeds MaxBytes"):
		m.demand.oversize = known
	case strings.Contains(text, "Batch Completed"):
	default:
		// The consumer was deleted, its leader moves, nobody serves
		// JetStream just now …
		m.demand.notUntil = time.Now().Add(pullPause)
		m.b.spawn(m.verify)
	}
	if m.order != nil {
		m.order.nudge()
	}
	m.ask()
}

// verify ends the member if its consumer is gone.
func (m *member) verify() {
	ctx, cancel := context.WithTimeout(m.b.ctx, m.b.config.RequestTimeout)
	defer cancel()
	if _, err := m.b.consumerInfo(ctx, m.stream, m.consumer); errors.Is(err, backend.ErrNotFound) {
		m.end(backend.ErrNotFound)
	}
}
