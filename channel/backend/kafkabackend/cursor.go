package kafkabackend

import (
	"context"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// cursor is a group's place in a partition.
type cursor struct {
	d       *desk
	unit    *unit
	fetcher *fetcher
	looking bool
	set     wish

	tracker tracker
	next    int64 // to be fetched
	known   int64 // the log's end when we began: some member may have had what is before; -1: not known
	buf     []entryOf
	dirty   bool
	owner   taker // of an Ordered log
}

// sizeOverhead is what a record that waits costs beside its bytes.
const sizeOverhead = 64

// entryOf is a record that waits for a member.
type entryOf struct {
	offset   int64
	size     int
	delivery *backend.Delivery
}

// hand hands out the first record that waits, if anyone may take it.
func (c *cursor) hand() bool {
	if len(c.buf) == 0 {
		return false
	}
	e := c.buf[0]
	if st := c.tracker.of(e.offset); st == held || st == settled {
		c.drop() // an ack came for it meanwhile
		return true
	}
	if e.offset >= c.tracker.base+spanLimit {
		return false
	}
	var t taker
	if c.d.s.log.Ordered {
		if c.owner == nil {
			c.owner = c.d.anyone(c.unit.index)
		}
		if t = c.owner; t == nil || t.room() <= 0 {
			return false
		}
	} else if t = c.d.taker(); t == nil {
		return false
	}
	c.drop()
	p := place{c.unit.index, e.offset}
	c.tracker.set(e.offset, held)
	switch t := t.(type) {
	case *member:
		t.give(p, e.delivery, e.size)
	case *remote:
		c.d.grant(t, p, e.delivery.Redelivered)
	}
	return true
}

// drop takes the first record out of the buffer.
func (c *cursor) drop() {
	c.d.buffered -= c.buf[0].size
	c.buf[0] = entryOf{}
	c.buf = c.buf[1:]
}

// rewind has the cursor read again from an offset on.
func (c *cursor) rewind(to int64) {
	if to >= c.next {
		return
	}
	c.next = max(to, c.tracker.base)
	for _, e := range c.buf {
		c.d.buffered -= e.size
	}
	c.buf = nil
}

func (c *cursor) update(waiting, limit int) {
	if c.d.stage != active {
		return
	}
	if c.fetcher == nil {
		c.look()
		return
	}
	w := wish{offset: c.next, max: clampMax(limit)}
	if w.wants = waiting < limit && c.next < c.tracker.base+spanLimit; w.wants && !c.set.wants && waiting > limit/2 {
		w.wants = false // not for every single record
	}
	if w != c.set {
		c.set = w
		c.fetcher.set(c.unit, w.wants, w.offset, w.max)
	}
}

func (c *cursor) close() {
	c.buf = nil
	if c.fetcher != nil {
		c.fetcher.set(c.unit, false, 0, 0)
		c.fetcher = nil
	}
}

// look finds the partition's leader.
func (c *cursor) look() {
	if c.looking {
		return
	}
	c.looking = true
	s, p := c.d.s, c.unit.partition
	s.b.crew.Go(func() {
		b := s.b.locate(p, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return c.d.stage != active
		})
		s.mu.Lock()
		defer s.mu.Unlock()
		c.looking = false
		if c.d.stage != active {
			return
		}
		if b == nil {
			if s.b.life.Err() == nil {
				s.b.crew.Go(func() { s.end(errTopicGone) })
			}
			return
		}
		c.fetcher = b.services().fetcher
		// Another fetcher may still look at the former one, under its own lock.
		c.unit = &unit{partition: p, take: c.take}
		c.set = wish{}
		c.d.update()
	})
}

// take takes in what was fetched from an offset on.
func (c *cursor) take(f *fetched, offset int64) {
	s := c.d.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.d.stage != active || c.fetcher == nil {
		return
	}
	if f.code != 0 {
		c.trouble(f)
		return
	}
	if offset != c.next {
		return // asked for before a rewind, or come twice
	}
	if c.known < 0 {
		c.known = f.end
	}
	c.expire(f.start)
	c.read(f.records)
	c.d.dispatch()
	c.d.update()
}

func (c *cursor) trouble(f *fetched) {
	c.fetcher.set(c.unit, false, 0, 0)
	c.fetcher = nil
	s := c.d.s
	if f.code == int16(kafka.OffsetOutOfRange) {
		p := c.unit.partition
		s.b.crew.Go(func() { c.outOfRange(p) })
		return
	}
	s.b.cluster.forget(c.unit.topic)
	c.look()
}

// outOfRange: the broker removed what we wanted to read next, or lost it.
func (c *cursor) outOfRange(p partition) {
	s := c.d.s
	ctx, cancel := context.WithTimeout(s.b.life, s.b.config.RequestTimeout)
	defer cancel()
	start, err := s.b.cluster.offset(ctx, earliest, p)
	var end []int64
	if err == nil {
		end, err = s.b.cluster.offset(ctx, latest, p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.d.stage != active {
		return
	}
	if err == nil {
		c.expire(start[0])
		if c.next > end[0] { // an unclean election: all that is left may be other records
			s.b.config.Logger.Warn("kafka: the broker lost records; reading from the first one",
				"topic", c.unit.topic, "partition", c.unit.index, "position", c.next, "end", end[0])
			c.tracker = tracker{base: start[0]}
			c.rewind(start[0])
			c.dirty = true
			c.d.soil()
		}
	}
	c.look()
}

// expire settles what the broker removed before it was acked.
func (c *cursor) expire(start int64) {
	if start <= c.tracker.base {
		return
	}
	n := c.tracker.skip(start)
	c.soil()
	if c.next < start {
		c.next = start
	}
	for len(c.buf) > 0 && c.buf[0].offset < start {
		c.d.buffered -= c.buf[0].size
		c.buf = c.buf[1:]
	}
	if n > 0 {
		s := c.d.s
		s.b.expired.Add(n)
		s.b.config.Logger.Error("kafka: records expired before they were acked",
			"log", string(s.log.Name), "group", s.group.Group, "partition", c.unit.index, "records", n)
	}
}

func (c *cursor) read(records []byte) {
	s := c.d.s
	r := batchReader{rest: records}
	for r.next() {
		var w wireRecord
		from := max(c.next, r.first)
		for r.record(&w) {
			if w.offset < from {
				continue
			}
			c.absent(from, w.offset)
			from = w.offset + 1
			if r.control {
				c.absent(w.offset, from)
				continue
			}
			if st := c.tracker.of(w.offset); st == waiting || st == again {
				c.add(&w, st == again || w.offset < c.known)
			}
		}
		if r.err != nil {
			break
		}
		c.absent(from, r.last+1)
		c.next = max(c.next, r.last+1)
	}
	if r.err != nil {
		s.b.config.Logger.Error("kafka: unreadable records", "topic", c.unit.topic, "partition", c.unit.index, "error", r.err)
	}
}

func (c *cursor) add(w *wireRecord, redelivered bool) {
	e := entryOf{offset: w.offset, delivery: newDelivery(c.d.s.log, place{c.unit.index, w.offset}, w)}
	e.delivery.Redelivered = redelivered
	e.size = e.delivery.Size() + sizeOverhead
	c.buf = append(c.buf, e)
	c.d.buffered += e.size
}

// absent settles offsets without a record.
func (c *cursor) absent(from, to int64) {
	for o := from; o < to; o++ {
		if c.tracker.set(o, settled) {
			c.soil()
		}
	}
}

func (c *cursor) soil() {
	c.dirty = true
	c.d.soil()
}

func newDelivery(l *logEntry, p place, w *wireRecord) *backend.Delivery {
	d := &backend.Delivery{
		Incarnation: backend.Incarnation(l.Incarnation), Partition: p.partition, Offset: uint64(p.offset),
		Stored: time.UnixMilli(w.timestamp),
	}
	decodeRecord(w, &d.Record)
	return d
}
