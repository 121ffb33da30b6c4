package kafkabackend

import (
	"errors"
	"fmt"
	"slices"
	"time"

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

	reports []report // what came before it was loaded
	early   []place  // acks that did

	cursors  []*cursor
	remotes  map[remoteID]*remote
	buffered int // bytes in the cursors' buffers
	turn     int // of cursors, so that none starves

	leaving           bool // we are about to exit
	dirty, committing bool
	committed         chan struct{} // closed when a commit under way ends
	waiters           []chan error  // answered when all that is known now is committed
	heard, confirmed  int64         // acks of others, by offset in the fleet's topic
	last              time.Time     // the last commit
}

type stage int

const (
	expecting stage = iota // hellos of others
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
	return &desk{s: s, remotes: make(map[remoteID]*remote)}
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
				b.fleet.mu.Lock()
				defer b.fleet.mu.Unlock()
				s.mu.Lock()
				defer s.mu.Unlock()
				if d.stage == loading {
					d.begin(at)
					s.act(0) // it may have begun for the sake of early acks alone
				}
				return
			}
		}
		if errors.Is(err, backend.ErrNotFound) && b.vanished(b.life, s.log) {
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
	if d.stage != active || d.leaving || d.buffered == 0 {
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
