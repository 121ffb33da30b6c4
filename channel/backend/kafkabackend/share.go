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
	since   int64 // the leader's term began, or ours with it, at this offset
	desk    *desk // ours, if we lead
	err     error // the group has ended

	// What is to be said, and is, by flush.
	acks   map[uint64]map[int32][]int64
	grants map[*remote]*message
	queued bool
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
	s.retire()
	s.status, s.leader = out, ""
	s.acks, s.grants = nil, nil
	for _, m := range s.members {
		m.void()
	}
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
		s.flushAcks() // to the former leader; or rather to us, now
		s.desk = newDesk(s)
		for id := range f.members[s.group.ID] {
			if id != me {
				s.desk.awaited[id] = true
			}
		}
	case now == me && exited != "":
		s.desk.gone(exited)
	case now != me && now != "" && s.status == in && (now != before || entered == me):
		s.since = f.applied
		s.flushAcks()
		f.say(s.hello())
	}
	if s.status == out && len(s.members) > 0 && s.err == nil && f.state == partOf {
		s.status = entering // one came while we were on the way out
		f.say(message{Kind: msgEnter, Groups: []string{s.group.ID}})
	}
}

// finish commits what we knew as the leader, and lets the next one begin.
func (s *share) finish(d *desk, me string) {
	d.commitLast(me)
	f := s.b.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.me != me {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.say(message{Kind: msgFinal, Group: s.group.ID})
	if s.leader != "" && s.leader != me && s.status == in {
		s.flushAcks()
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
		d.ackedBy(remoteID{from, m.Member}, m.Offsets)
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
}

// flushAcks is part of everything that is said to a leader, so that no ack comes
// after a hello that leaves the record out. Both locks are held.
func (s *share) flushAcks() {
	for id, offsets := range s.acks {
		s.b.fleet.say(message{Kind: msgAck, Group: s.group.ID, Member: id, Offsets: offsets})
	}
	s.acks = nil
}

// withdraw ends a member, and our part if it was the last one. It returns a
// channel that is closed when the others know, nil: they need not.
func (s *share) withdraw(m *member) (told chan error) {
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
	if s.desk != nil {
		s.desk.left(m)
	} else if s.status == in {
		s.flushAcks()
		told = make(chan error, 1)
		f.say(message{Kind: msgDrop, Group: s.group.ID, Member: m.id, done: told})
	}
	m.void()
	if len(s.members) == 0 && (s.status == in || s.status == entering) && f.state == partOf {
		s.status = exiting
		told = make(chan error, 1)
		f.say(message{Kind: msgExit, Groups: []string{s.group.ID}, done: told})
	}
	if len(s.members) == 0 && s.status == out {
		delete(f.shares, s.group.ID)
	}
	return told
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
	if s.status == in || s.status == entering {
		s.status = exiting
		f.say(message{Kind: msgExit, Groups: []string{s.group.ID}})
	} else if s.status == out {
		delete(f.shares, s.group.ID)
	}
	s.mu.Unlock()
}

// errDeleted is why a group ends.
var errDeleted = fmt.Errorf("deleted: %w", backend.ErrNotFound)
