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
	part    part
	members []*member
	desk    *desk        // ours, if we lead
	err     error        // the group has ended
	exited  chan error   // answered when the others can read that we have no members
	leaving []chan error // answered when all our former desks have committed

	// What is to be said, and is, by flush.
	acks    map[uint64]map[int32][]int64
	grants  map[*remote]*message
	confirm int64 // acks up to this offset of the fleet's topic are committed
	queued  bool

	// Acks to a leader elsewhere, until it has committed them. The next leader
	// is told again: the former one may have died before it had.
	unconfirmed []unconfirmed
	said        uint64       // acks
	waiting     []chan error // answered when there are none
}

type unconfirmed struct {
	nr      uint64 // each time that it is said
	member  uint64
	offsets map[int32][]int64
	at      int64 // where in the fleet's topic; -1: on its way there
}

// enroll makes m a member. The fleet's lock is held.
func (s *share) enroll(m *member) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.members = append(s.members, m)
	switch {
	case s.part.status == in && s.part.leading:
		s.desk.joined(m)
	case s.part.status == in && s.part.greeted:
		s.b.fleet.say(s.hello(m))
	}
	s.act(0)
	return nil
}

// act does what is to be done, and enters or exits if that is due. Both locks are held.
func (s *share) act(do duties) {
	f := s.b.fleet
	if do&doRetire != 0 {
		s.retire()
	}
	if do&doLead != 0 {
		s.desk = newDesk(s)
		s.keepAcks()
	}
	if d := s.desk; do&doBegin != 0 && d.stage == expecting {
		d.stage = loading
		s.b.crew.Go(d.load)
	}
	if do&doGreet != 0 {
		s.repeatAcks()
		f.say(s.hello())
	}
	if f.state != partOf {
		return
	}
	switch s.part.wish(s.wanted()) {
	case doEnter:
		f.say(message{Kind: msgEnter, Groups: []string{s.group.ID}})
	case doResign:
		s.desk.leaving = true
		s.exited = make(chan error, 1)
		f.say(message{Kind: msgResign, Groups: []string{s.group.ID}})
	case doExit:
		if s.exited == nil {
			s.exited = make(chan error, 1)
		}
		f.say(message{Kind: msgExit, Groups: []string{s.group.ID}, done: s.exited})
	}
}

// wanted: there is something to be a member for.
func (s *share) wanted() bool {
	switch {
	case s.err != nil:
		return false
	case len(s.members) > 0:
		return true
	case s.part.status == out:
		return false
	}
	if s.desk != nil { // one that has begun commits, whoever leads next
		return s.desk.stage < active && len(s.desk.early) > 0
	}
	return len(s.unconfirmed) > 0 || len(s.acks) > 0
}

// tidy has the fleet forget us when nothing is left to do. Both locks are held.
func (s *share) tidy() {
	if s.part.status == out && s.part.open == 0 && (len(s.members) == 0 || s.err != nil) && s.b.fleet.shares[s.group.ID] == s {
		delete(s.b.fleet.shares, s.group.ID)
	}
}

// look is for when something has changed that is not said in the fleet's topic.
// The fleet's lock is held.
func (s *share) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.act(0)
}

// standing is what we have said that we are. The fleet's lock is held.
func (s *share) standing() (member, mayLead bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.part.member()
}

// beaten names peers to be expelled. The fleet's lock is held.
func (s *share) beaten() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.part.beaten()
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

// reset: we were expelled. The fleet's lock is held.
func (s *share) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.desk != nil {
		s.desk.abandon()
		s.desk = nil
	}
	if s.exited != nil && s.part.status != exiting { // else what we have said answers it
		s.exited <- backend.ErrUnavailable
	}
	s.exited = nil
	s.part.reset(s.b.fleet.roster.me)
	s.acks, s.grants, s.unconfirmed = nil, nil, nil
	s.settled()
	for _, m := range s.members {
		m.void()
	}
	s.tidy()
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

// retire ends our desk. What it knows is committed, and then others may begin.
func (s *share) retire() {
	d := s.desk
	s.desk, s.grants = nil, nil
	if d.stage == expecting || d.stage == loading {
		// It never began: who leads next must know.
		if len(d.early) > 0 {
			s.acks = map[uint64]map[int32][]int64{0: byPartition(d.early)}
		}
		s.waiting = append(s.waiting, d.takeWaiters()...)
		s.settled()
	}
	d.retire()
	me := s.part.me
	s.b.crew.Go(func() {
		d.commitLast(me)
		s.finished()
	})
}

// finished: a former desk of ours has committed.
func (s *share) finished() {
	s.b.fleet.mu.Lock()
	defer s.b.fleet.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	do := s.part.finished()
	if s.part.open == 0 {
		for _, w := range s.leaving {
			w <- nil
		}
		s.leaving = nil
	}
	s.act(do)
	s.tidy()
}

// change: a peer has entered, resigned or exited. The fleet's lock is held.
func (s *share) change(c *change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.desk != nil && c.exited != "" {
		s.desk.gone(c.exited)
	}
	do := s.part.change(c)
	if s.part.status == out { // what is left to say was others' to us
		s.acks, s.unconfirmed, s.exited = nil, nil, nil
		s.settled()
	}
	s.act(do)
	s.tidy()
}

// hear takes in what a peer says about the group. The fleet's lock is held.
func (s *share) hear(from string, m *message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.b.fleet
	me := f.roster.me
	if from == me && m.Kind == msgAck {
		for i := range s.unconfirmed {
			if u := &s.unconfirmed[i]; u.nr == m.Nr {
				u.at = f.roster.applied
			}
		}
	}
	switch d := s.desk; {
	case m.Kind == msgGrant:
		if from == s.part.leader && from != me && m.At >= s.part.since && m.Peer == me {
			s.granted(m)
		}
	case m.Kind == msgConfirm:
		if from == s.part.leader && from != me {
			s.unconfirmed = slices.DeleteFunc(s.unconfirmed, func(u unconfirmed) bool { return u.at >= 0 && u.at <= m.Upto })
			s.settled()
			s.act(0)
		}
	case d == nil || from == me:
	case m.Kind == msgHello && s.part.hears(m.At):
		d.hello(from, m.Members)
		if m.Again {
			s.act(s.part.hello(from))
		}
	case m.Kind == msgAck:
		d.ackedBy(remoteID{from, m.Member}, m.Offsets, f.roster.applied)
	case m.Kind == msgDrop:
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
		s.sayAck(unconfirmed{member: id, offsets: offsets})
	}
	s.acks = nil
}

func (s *share) sayAck(u unconfirmed) {
	s.said++
	u.nr, u.at = s.said, -1
	s.b.fleet.say(message{Kind: msgAck, Group: s.group.ID, Nr: u.nr, Member: u.member, Offsets: u.offsets})
	s.unconfirmed = append(s.unconfirmed, u)
}

// repeatAcks tells a new leader what the former one may not have committed.
func (s *share) repeatAcks() {
	s.flushAcks()
	all := s.unconfirmed
	s.unconfirmed = nil
	for _, u := range all {
		if u.at < 0 { // it reads that
			s.unconfirmed = append(s.unconfirmed, u)
		} else {
			s.sayAck(u)
		}
	}
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
	if d := s.desk; d != nil {
		d.left(m)
		if d.dirty || d.committing || len(d.early) > 0 {
			d.waiters = append(d.waiters, wait())
		}
	} else {
		s.flushAcks()
		if s.part.greeted {
			f.say(message{Kind: msgDrop, Group: s.group.ID, Member: m.id, done: wait()})
		}
		if len(s.unconfirmed) > 0 {
			s.waiting = append(s.waiting, wait())
		}
	}
	if s.part.open > 0 { // one of them may have what it acked
		s.leaving = append(s.leaving, wait())
	}
	m.void()
	before := s.part.status
	if s.act(0); s.exited != nil && s.part.status != before {
		told = append(told, s.exited)
	}
	s.tidy()
	return told
}

// end is for a group that is no more.
func (s *share) end(why error) {
	f := s.b.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
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
	s.act(0)
	s.tidy()
}

// errDeleted is why a group ends.
var errDeleted = fmt.Errorf("deleted: %w", backend.ErrNotFound)
