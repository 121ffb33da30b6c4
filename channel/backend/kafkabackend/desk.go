package kafkabackend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// desk is where a group's leader hands out the log's records:
//
//	fetcher --> cursor (partition 0): tracker, buffer --\      /--> member of this process
//	fetcher --> cursor (partition 1): tracker, buffer ---+----+---> member of this process
//	                                     ^    |           \    \--> remote: offsets, said in
//	                                acks-/    \--> commits             the fleet's topic
//
// Members of this process come first: what they get costs no message. Of an
// Ordered log a partition's records go to one member until that one leaves. All
// is under the share's lock.
type desk struct {
	s     *share
	stage stage

	awaited map[string]bool // peers whose hello has not come
	reports []report        // what came before it was loaded
	early   []place         // acks that did

	cursors  []*cursor
	remotes  map[remoteID]*remote
	buffered int // bytes in the cursors' buffers
	turn     int // of cursors, so that none starves
	missing  time.Time

	dirty, committing bool
	committed         chan struct{} // closed when a commit under way ends
	waiters           []chan error  // answered when all that is known now is committed
	heard, confirmed  int64         // acks of others, by offset in the fleet's topic
	last              time.Time     // the last commit
}

type stage int

const (
	expecting stage = iota // hellos and finals of others
	loading                // the committed positions
	active
	retired
)

type remoteID struct {
	peer   string
	member uint64
}

type report struct {
	from    string
	members []memberReport
}

// remote is a member of another process.
type remote struct {
	id     remoteID
	window int
	held   map[place]bool
}

// taker takes records: a member or a remote.
type taker interface{ room() int }

func (r *remote) room() int { return r.window - len(r.held) }

func newDesk(s *share) *desk {
	return &desk{s: s, awaited: make(map[string]bool), remotes: make(map[remoteID]*remote)}
}

// load reads the committed positions, until it succeeds, and begins.
func (d *desk) load() {
	s := d.s
	b := s.b
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		leaders, err := b.cluster.partitions(b.life, s.log.Topic)
		if err == nil {
			var at []position
			if at, err = b.positions(b.life, s.log, s.group, len(leaders)); err == nil {
				s.mu.Lock()
				if d.stage == loading {
					d.begin(at)
				}
				s.mu.Unlock()
				return
			}
		}
		if errors.Is(err, backend.ErrNotFound) && b.vanished(s.log) {
			b.crew.Go(func() { s.end(errTopicGone) })
			return
		}
		select {
		case <-time.After(pause):
		case <-b.life.Done():
			return
		}
		s.mu.Lock()
		over := d.stage != loading
		s.mu.Unlock()
		if over {
			return
		}
	}
}

var errTopicGone = fmt.Errorf("its topic is gone: %w", backend.ErrNotFound)

func (d *desk) begin(at []position) {
	for i, p := range at {
		d.addCursor(int32(i), p)
	}
	d.stage = active
	for _, r := range d.reports {
		d.admit(r)
	}
	d.reports = nil
	for _, m := range d.s.members {
		for p := range m.held {
			d.hold(p, m)
		}
	}
	for _, p := range d.early {
		d.settle(p)
	}
	d.early = nil
	d.dispatch()
	d.update()
	if !d.dirty {
		d.confirm(d.heard)
		d.answer(d.takeWaiters(), nil)
	}
}

func (d *desk) takeWaiters() []chan error {
	w := d.waiters
	d.waiters = nil
	return w
}

func (d *desk) answer(waiters []chan error, err error) {
	for _, w := range waiters {
		w <- err
	}
}

func (d *desk) addCursor(index int32, p position) {
	c := &cursor{d: d, next: p.prefix, known: -1}
	c.tracker.base = p.prefix
	for _, o := range p.acked {
		c.tracker.set(o, settled)
	}
	c.unit = &unit{partition: partition{d.s.log.Topic, index}, take: c.take}
	d.cursors = append(d.cursors, c)
}

func (d *desk) cursor(p place) *cursor {
	if int(p.partition) < 0 || int(p.partition) >= len(d.cursors) {
		return nil
	}
	return d.cursors[p.partition]
}

// hold notes that somebody had the record already when we began.
func (d *desk) hold(p place, t taker) {
	c := d.cursor(p)
	if c == nil || p.offset >= c.tracker.base+spanLimit {
		return
	}
	c.tracker.set(p.offset, held)
	if d.s.log.Ordered {
		c.owner = t
	}
}

// hello takes in members of another process and what they hold.
func (d *desk) hello(from string, members []memberReport) {
	r := report{from, members}
	if d.stage != active {
		d.reports = append(d.reports, r)
		return
	}
	d.admit(r)
	d.dispatch()
}

func (d *desk) admit(r report) {
	for _, m := range r.members {
		id := remoteID{r.from, m.ID}
		to := d.remotes[id]
		if to == nil {
			to = &remote{id: id, held: make(map[place]bool)}
			d.remotes[id] = to
		}
		to.window = m.Window
		for p, offsets := range m.Held {
			for _, o := range offsets {
				at := place{p, o}
				if c := d.cursor(at); c != nil && c.tracker.of(o) != settled {
					to.held[at] = true
					d.hold(at, to)
				}
			}
		}
	}
}

// joined: one more member of our own.
func (d *desk) joined(*member) {
	if d.stage == active {
		d.dispatch()
		d.update()
	}
}

// left: a member of our own is gone.
func (d *desk) left(m *member) {
	if d.stage != active {
		return
	}
	back := make([]place, 0, len(m.held))
	for p := range m.held {
		back = append(back, p)
	}
	m.void() // what is in its queue does not count any more
	d.back(m, back)
}

// dropped: a member of another process is gone.
func (d *desk) dropped(id remoteID) {
	for i := range d.reports {
		if r := &d.reports[i]; r.from == id.peer {
			r.members = slices.DeleteFunc(slices.Clone(r.members), func(m memberReport) bool { return m.ID == id.member })
		}
	}
	r := d.remotes[id]
	if r == nil {
		return
	}
	delete(d.remotes, id)
	delete(d.s.grants, r)
	back := make([]place, 0, len(r.held))
	for p := range r.held {
		back = append(back, p)
	}
	d.back(r, back)
}

// gone: a whole process is.
func (d *desk) gone(peer string) {
	delete(d.awaited, peer)
	d.reports = slices.DeleteFunc(d.reports, func(r report) bool { return r.from == peer })
	for id := range d.remotes {
		if id.peer == peer {
			d.dropped(id)
		}
	}
}

// back has records delivered again, from the first one on: those behind it that
// are settled or held are passed over.
func (d *desk) back(from taker, places []place) {
	for _, p := range places {
		if c := d.cursor(p); c != nil && c.tracker.set(p.offset, again) {
			c.rewind(p.offset)
		}
	}
	for _, c := range d.cursors {
		if c.owner == from {
			c.owner = nil
			c.rewind(c.tracker.base)
		}
	}
	d.dispatch()
	d.update()
}

// acked: a member of ours has.
func (d *desk) acked(p place) {
	if d.stage != active {
		d.early = append(d.early, p)
		return
	}
	d.settle(p)
	d.dispatch()
	d.update()
}

// ackedBy: a member of another process has.
func (d *desk) ackedBy(id remoteID, offsets map[int32][]int64, at int64) {
	d.heard = at
	r := d.remotes[id]
	for index, all := range offsets {
		for _, o := range all {
			p := place{index, o}
			if r != nil {
				delete(r.held, p)
			}
			if d.stage != active {
				d.early = append(d.early, p)
			} else {
				d.settle(p)
			}
		}
	}
	if d.stage == active {
		d.dispatch()
		d.update()
		if !d.dirty && !d.committing {
			d.confirm(at) // it knew them all
		}
	}
}

// confirm tells the others that their acks up to an offset are committed.
func (d *desk) confirm(upto int64) {
	if upto > d.confirmed && d.stage == active {
		d.confirmed = upto
		d.s.confirm = upto
		d.s.queue()
	}
}

func (d *desk) settle(p place) {
	c := d.cursor(p)
	if c == nil || p.offset > c.tracker.base+spanLimit {
		return
	}
	if c.tracker.set(p.offset, settled) {
		c.soil()
	}
}

// dispatch hands out what there is, as far as there is room.
func (d *desk) dispatch() {
	if d.stage != active || d.buffered == 0 {
		return
	}
	n := len(d.cursors)
	for idle := 0; idle < n; {
		c := d.cursors[d.turn%n]
		if c.hand() {
			idle = 0
			continue // a run of one partition
		}
		d.turn++
		idle++
	}
}

// taker finds one with room: of ours first, and the one with the most.
func (d *desk) taker() taker {
	var best *member
	most := 0
	for _, m := range d.s.members {
		if n := m.room(); n > most {
			best, most = m, n
		}
	}
	if best != nil {
		return best
	}
	var other *remote
	for _, r := range d.remotes {
		if n := r.room(); n > most {
			other, most = r, n
		}
	}
	if other != nil {
		return other
	}
	return nil
}

// anyone finds an owner for a partition of an Ordered log.
func (d *desk) anyone(index int32) taker {
	if n := len(d.s.members); n > 0 {
		return d.s.members[int(index)%n]
	}
	for _, r := range d.remotes {
		return r
	}
	return nil
}

// update tells the fetchers what is wanted now.
func (d *desk) update() {
	if d.stage != active {
		return
	}
	n, limit := d.buffered, 0
	for _, m := range d.s.members {
		n += m.bytes
		limit += m.buffer
	}
	limit = max(limit, 1)
	for _, c := range d.cursors {
		c.update(n, limit)
	}
}

func (d *desk) retire() {
	for _, c := range d.cursors {
		c.close()
	}
	d.stage = retired
	d.buffered = 0
}

// abandon is retire for a group that is no more: nothing is committed.
func (d *desk) abandon() {
	d.retire()
	d.dirty = false
	for _, c := range d.cursors {
		c.dirty = false
	}
	d.answer(d.takeWaiters(), nil)
}

// grow adds partitions that the topic got later. They begin at their first record.
func (d *desk) grow(partitions int) {
	if d.stage != active {
		return
	}
	for i := len(d.cursors); i < partitions; i++ {
		d.addCursor(int32(i), position{prefix: d.s.group.start(int32(i))})
	}
	d.update()
}

// commitGap is how long after a commit the next one waits, if it is not the last.
const commitGap = 20 * time.Millisecond

// soil notes that there is something to commit.
func (d *desk) soil() {
	if d.dirty = true; d.committing || d.stage != active {
		return
	}
	d.committing = true
	d.committed = make(chan struct{})
	if wait := commitGap - time.Since(d.last); wait > 0 {
		time.AfterFunc(wait, func() { d.s.b.commits.add(d) })
		return
	}
	d.s.b.commits.add(d)
}

// commit commits once. The batcher of the backend calls it.
func (d *desk) commit() {
	s := d.s
	s.mu.Lock()
	at := d.changed()
	live := d.stage == active || d.stage == retired
	waiters, heard := d.takeWaiters(), d.heard
	s.mu.Unlock()
	var err error
	if len(at) > 0 && live {
		if s.b.fleet.holding() {
			err = s.b.commitPositions(s.b.life, s.log, s.group, at)
		} else {
			err = backend.ErrUnavailable // perhaps it is another's to commit by now
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d.last = time.Now()
	d.committing = false
	close(d.committed)
	if err != nil {
		d.restore(at)
		d.waiters = append(d.waiters, waiters...)
	} else {
		d.answer(waiters, nil)
		d.confirm(heard)
	}
	if d.dirty && d.stage == active && s.b.life.Err() == nil {
		d.soil()
	}
}

// changed takes what is to be committed.
func (d *desk) changed() map[int32]position {
	at := make(map[int32]position)
	for i, c := range d.cursors {
		if c.dirty {
			c.dirty = false
			at[int32(i)] = c.tracker.position()
		}
	}
	d.dirty = false
	return at
}

func (d *desk) restore(at map[int32]position) {
	for i := range at {
		d.cursors[i].dirty = true
	}
	d.dirty = d.dirty || len(at) > 0
}

// lastLoad has a desk that was retired before it had begun know the positions, if
// there are acks to add to them and nobody leads after us who would.
func (d *desk) lastLoad(me string) {
	s := d.s
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		s.mu.Lock()
		wanted := len(d.early) > 0 && len(d.cursors) == 0 && s.leader == ""
		s.mu.Unlock()
		if !wanted {
			return
		}
		leaders, err := s.b.cluster.partitions(s.b.life, s.log.Topic)
		var at []position
		if err == nil {
			at, err = s.b.positions(s.b.life, s.log, s.group, len(leaders))
		}
		if err == nil {
			s.mu.Lock()
			for i, p := range at {
				d.addCursor(int32(i), p)
			}
			for _, p := range d.early {
				d.settle(p)
			}
			d.early = nil
			s.mu.Unlock()
			return
		}
		select {
		case <-time.After(pause):
		case <-s.b.life.Done():
			return
		}
		if errors.Is(err, backend.ErrNotFound) || !s.b.fleet.is(me) {
			return
		}
	}
}

// commitLast commits what a retired desk knows, until that has succeeded or
// is another's business.
func (d *desk) commitLast(me string) {
	s := d.s
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		d.answer(d.takeWaiters(), nil)
	}()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		s.mu.Lock()
		committing, committed := d.committing, d.committed
		s.mu.Unlock()
		if committing {
			select {
			case <-committed:
			case <-s.b.life.Done():
				return
			}
			continue
		}
		s.mu.Lock()
		at := d.changed()
		s.mu.Unlock()
		if len(at) == 0 {
			return
		}
		var err error = backend.ErrUnavailable
		if s.b.fleet.holding() {
			err = s.b.commitPositions(s.b.life, s.log, s.group, at)
		}
		if err == nil || errors.Is(err, backend.ErrNotFound) {
			return
		}
		s.mu.Lock()
		d.restore(at)
		s.mu.Unlock()
		if !s.b.fleet.is(me) {
			return
		}
		select {
		case <-time.After(pause):
		case <-s.b.life.Done():
			return
		}
	}
}

// grant has flush tell another process.
func (d *desk) grant(r *remote, p place, redelivered bool) {
	r.held[p] = true
	s := d.s
	if s.grants == nil {
		s.grants = make(map[*remote]*message)
	}
	m := s.grants[r]
	if m == nil {
		m = &message{Kind: msgGrant, Group: s.group.ID, Peer: r.id.peer, Member: r.id.member, Offsets: make(map[int32][]int64)}
		s.grants[r] = m
	}
	m.Again = m.Again || redelivered
	m.Offsets[p.partition] = append(m.Offsets[p.partition], p.offset)
	s.queue()
}

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
	c.buf[0] = entryOf{}
	c.buf = c.buf[1:]
	c.d.buffered -= e.size
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
	s := c.d.s
	s.b.crew.Go(func() {
		b := s.b.locate(c.unit.partition, func() bool {
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
		s.b.crew.Go(c.outOfRange)
		return
	}
	s.b.cluster.forget(c.unit.topic)
	c.look()
}

// outOfRange: the broker removed what we wanted to read next, or lost it.
func (c *cursor) outOfRange() {
	s := c.d.s
	ctx, cancel := context.WithTimeout(s.b.life, s.b.config.RequestTimeout)
	defer cancel()
	start, err := s.b.cluster.offset(ctx, earliest, c.unit.partition)
	var end []int64
	if err == nil {
		end, err = s.b.cluster.offset(ctx, latest, c.unit.partition)
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
