package kafkabackend

import (
	"fmt"
	"slices"
	"sync"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// place names a record within a log.
type place struct {
	partition int32
	offset    int64
}

// share is this process's part in a group: its members, and the desk if it leads.
// Its lock comes after the fleet's and before a fetcher's.
type share struct {
	b     *Backend
	log   *logEntry
	group *groupEntry

	mu      sync.Mutex
	status  shareStatus
	members []*member
	leader  string
	since   int64      // the leader's term began, or ours with it, at this offset
	desk    *desk      // ours, if we lead
	err     error      // the group has ended
	exited  chan error // answered when the others can read that we have no members

	// What is to be said, and is, by flush.
	acks    map[uint64]map[int32][]int64
	grants  map[*remote]*message
	confirm int64 // acks up to this offset of the fleet's topic are committed
	queued  bool

	// Acks to a leader elsewhere, until it has committed them. The next leader
	// is told again: the former one may have died before it had.
	unconfirmed []unconfirmed
	waiting     []chan error // answered when there are none
}

type unconfirmed struct {
	member  uint64
	offsets map[int32][]int64
	at      int64 // where in the fleet's topic; -1: on its way there
}

// shareStatus is what the other processes know of our being a member.
type shareStatus int

const (
	out shareStatus = iota
	entering
	in
	exiting
)

// enroll makes m a member. The fleet's lock is held.
func (s *share) enroll(m *member) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.members = append(s.members, m)
	f := s.b.fleet
	switch {
	case s.status == out && f.state == partOf:
		s.status = entering
		f.say(message{Kind: msgEnter, Groups: []string{s.group.ID}})
	case s.status == in && s.desk != nil:
		s.desk.joined(m)
	case s.status == in:
		f.say(s.hello(m))
	}
	return nil
}

// hello tells the leader of members, all or those given.
func (s *share) hello(members ...*member) message {
	h := message{Kind: msgHello, Group: s.group.ID}
	if len(members) == 0 {
		members = s.members
		h.Again = true // it is all of them
	}
	for _, m := range members {
		h.Members = append(h.Members, memberReport{ID: m.id, Window: m.window, Held: m.report()})
	}
	return h
}

// wanted: we should be known as a member. The fleet's lock is held.
func (s *share) wanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.members) == 0 || s.err != nil {
		return false
	}
	s.status = entering
	return true
}

// over: nothing is left to do.
func (s *share) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status == out && (len(s.members) == 0 || s.err != nil)
}

// reset: we were expelled.
func (s *share) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.desk != nil {
		s.desk.abandon()
		s.desk = nil
	}
	s.status, s.leader = out, ""
	s.acks, s.grants, s.unconfirmed = nil, nil, nil
	s.settled()
	for _, m := range s.members {
		m.void()
	}
}

// settled answers who waits for acks to be committed, if all are.
func (s *share) settled() {
	if len(s.unconfirmed) > 0 || len(s.acks) > 0 {
		return
	}
	for _, w := range s.waiting {
		w <- nil
	}
	s.waiting = nil
}

// retire ends our desk.
func (s *share) retire() *desk {
	d := s.desk
	if d != nil {
		d.retire()
		s.desk = nil
		s.grants = nil
	}
	return d
}

// change: a peer has entered or exited, and now is who leads. The fleet's lock is held.
func (s *share) change(now, entered, exited string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.b.fleet
	me, before := f.me, s.leader
	s.leader = now
	if entered == me && s.status == entering {
		s.status = in
	}
	if exited == me {
		s.status = out
	}
	switch {
	case before == me && now != me:
		s.since = f.applied
		d := s.retire()
		f.c.group.Go(func() { s.finish(d, me) })
	case before != me && now == me:
		s.since = f.applied
		s.desk = newDesk(s)
		s.keepAcks()
		for id := range f.members[s.group.ID] {
			if id != me {
				s.desk.awaited[id] = true
			}
		}
	case now == me && exited != "":
		s.desk.gone(exited)
	case now != me && now != "" && s.status == in && (now != before || entered == me):
		s.since = f.applied
		s.repeatAcks()
		f.say(s.hello())
	}
	s.exitIfIdle()
	if s.status == out && len(s.members) > 0 && s.err == nil && f.state == partOf {
		s.status = entering // one came while we were on the way out
		f.say(message{Kind: msgEnter, Groups: []string{s.group.ID}})
	}
}

// finish commits what we knew as the leader, and lets the next one begin.
func (s *share) finish(d *desk, me string) {
	d.lastLoad(me)
	d.commitLast(me)
	f := s.b.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.me != me {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(d.early) > 0 { // it never began: the next one must know
		f.say(message{Kind: msgAck, Group: s.group.ID, Offsets: byPartition(d.early)})
	}
	f.say(message{Kind: msgFinal, Group: s.group.ID})
	if s.leader != "" && s.leader != me && s.status == in {
		s.repeatAcks()
		f.say(s.hello())
	}
}

// progress has a desk begin if all that it waits for is there. The fleet's lock
// is held, and nobody owes a final.
func (s *share) progress() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.desk; d != nil && d.stage == expecting && len(d.awaited) == 0 {
		d.stage = loading
		s.b.crew.Go(d.load)
	}
}

// hear takes in what a peer says about the group. The fleet's lock is held.
func (s *share) hear(from string, m *message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.b.fleet
	if m.Kind == msgGrant {
		if from == s.leader && from != f.me && m.At >= s.since && m.Peer == f.me {
			s.granted(m)
		}
		return
	}
	if from == f.me && m.Kind == msgAck {
		for i := range s.unconfirmed {
			if u := &s.unconfirmed[i]; u.at < 0 {
				u.at = f.applied
				break
			}
		}
	}
	if m.Kind == msgConfirm {
		if from == s.leader && from != f.me {
			s.unconfirmed = slices.DeleteFunc(s.unconfirmed, func(u unconfirmed) bool { return u.at >= 0 && u.at <= m.Upto })
			s.settled()
			s.exitIfIdle()
		}
		return
	}
	d := s.desk
	if d == nil {
		return
	}
	switch m.Kind {
	case msgHello:
		if m.At < s.since {
			return // it is for a former leader
		}
		if m.Again {
			delete(d.awaited, from)
		}
		d.hello(from, m.Members)
		if len(d.awaited) == 0 && len(f.owed[s.group.ID]) == 0 && d.stage == expecting {
			d.stage = loading
			s.b.crew.Go(d.load)
		}
	case msgAck:
		d.ackedBy(remoteID{from, m.Member}, m.Offsets, f.applied)
	case msgDrop:
		d.dropped(remoteID{from, m.Member})
	}
}

// granted: the leader of another process gives records to a member of ours.
func (s *share) granted(m *message) {
	for _, to := range s.members {
		if to.id == m.Member {
			for p, offsets := range m.Offsets {
				to.grant(p, offsets, m.Again)
			}
			return
		}
	}
}

// ack settles a record that a member of ours held. s.mu is held.
func (s *share) ack(m *member, p place) {
	if s.desk != nil {
		s.desk.acked(p)
		return
	}
	if s.acks == nil {
		s.acks = make(map[uint64]map[int32][]int64)
	}
	if s.acks[m.id] == nil {
		s.acks[m.id] = make(map[int32][]int64)
	}
	s.acks[m.id][p.partition] = append(s.acks[m.id][p.partition], p.offset)
	s.queue()
}

// queue has flush run soon.
func (s *share) queue() {
	if !s.queued {
		s.queued = true
		s.b.flush.add(s)
	}
}

// flush says what is to be said.
func (s *share) flush() {
	f := s.b.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued = false
	s.flushAcks()
	for _, m := range s.grants {
		f.say(*m)
	}
	clear(s.grants)
	if s.confirm > 0 && s.desk != nil {
		f.say(message{Kind: msgConfirm, Group: s.group.ID, Upto: s.confirm})
	}
	s.confirm = 0
}

// flushAcks is part of everything that is said to a leader, so that no ack comes
// after a hello that leaves the record out. Both locks are held.
func (s *share) flushAcks() {
	for id, offsets := range s.acks {
		s.b.fleet.say(message{Kind: msgAck, Group: s.group.ID, Member: id, Offsets: offsets})
		s.unconfirmed = append(s.unconfirmed, unconfirmed{id, offsets, -1})
	}
	s.acks = nil
}

// repeatAcks tells a new leader what the former one may not have committed.
func (s *share) repeatAcks() {
	s.flushAcks()
	for i := range s.unconfirmed {
		if u := s.unconfirmed[i]; u.at >= 0 {
			s.unconfirmed[i].offsets = nil // and it is dropped below
			s.b.fleet.say(message{Kind: msgAck, Group: s.group.ID, Member: u.member, Offsets: u.offsets})
			u.at = -1
			s.unconfirmed = append(s.unconfirmed, u)
		}
	}
	s.unconfirmed = slices.DeleteFunc(s.unconfirmed, func(u unconfirmed) bool { return u.offsets == nil })
}

// keepAcks is for when we are the new leader ourselves.
func (s *share) keepAcks() {
	for _, u := range s.unconfirmed {
		s.desk.early = appendPlaces(s.desk.early, u.offsets)
	}
	for _, offsets := range s.acks {
		s.desk.early = appendPlaces(s.desk.early, offsets)
	}
	s.acks, s.unconfirmed = nil, nil
	s.desk.waiters = append(s.desk.waiters, s.waiting...)
	s.waiting = nil
}

func byPartition(places []place) map[int32][]int64 {
	m := make(map[int32][]int64)
	for _, p := range places {
		m[p.partition] = append(m[p.partition], p.offset)
	}
	return m
}

func appendPlaces(to []place, offsets map[int32][]int64) []place {
	for p, all := range offsets {
		for _, o := range all {
			to = append(to, place{p, o})
		}
	}
	return to
}

// withdraw ends a member, and our part if it was the last one. What it returns is
// answered when the others know, and when all that it acked is committed.
func (s *share) withdraw(m *member) (told []chan error) {
	f := s.b.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.members, m)
	if i < 0 {
		return nil
	}
	s.members = slices.Delete(s.members, i, i+1)
	wait := func() chan error {
		w := make(chan error, 1)
		told = append(told, w)
		return w
	}
	switch {
	case s.desk != nil:
		s.desk.left(m)
		if s.desk.dirty || s.desk.committing || s.desk.stage != active {
			s.desk.waiters = append(s.desk.waiters, wait())
		}
	case s.status == in:
		s.flushAcks()
		f.say(message{Kind: msgDrop, Group: s.group.ID, Member: m.id, done: wait()})
		if len(s.unconfirmed) > 0 {
			s.waiting = append(s.waiting, wait())
		}
	}
	m.void()
	if s.exitIfIdle(); s.status == exiting {
		told = append(told, s.exited)
	}
	if len(s.members) == 0 && s.status == out {
		delete(f.shares, s.group.ID)
	}
	return told
}

// exitIfIdle ends our part in the group when there is nothing left to do.
func (s *share) exitIfIdle() {
	f := s.b.fleet
	if len(s.members) > 0 || (s.status != in && s.status != entering) || f.state != partOf ||
		(s.desk == nil && (len(s.unconfirmed) > 0 || len(s.acks) > 0)) {
		return
	}
	s.status = exiting
	s.exited = make(chan error, 1)
	f.say(message{Kind: msgExit, Groups: []string{s.group.ID}, done: s.exited})
}

// end is for a group that is no more.
func (s *share) end(why error) {
	f := s.b.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	s.mu.Lock()
	if s.err == nil {
		s.err = fmt.Errorf("group %s of log %q: %w", s.group.Group, s.log.Name, why)
	}
	members := s.members
	s.members = nil
	if d := s.desk; d != nil {
		d.abandon()
	}
	for _, m := range members {
		m.void()
		m.fail(s.err)
	}
	s.acks, s.unconfirmed = nil, nil
	s.settled()
	if s.exitIfIdle(); s.status == out {
		delete(f.shares, s.group.ID)
	}
	s.mu.Unlock()
}

// errDeleted is why a group ends.
var errDeleted = fmt.Errorf("deleted: %w", backend.ErrNotFound)
