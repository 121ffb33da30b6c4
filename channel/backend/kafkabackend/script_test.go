package kafkabackend

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// script has one process read a fleet topic that the test writes.
type script struct {
	t      *testing.T
	b      *Backend
	offset int64
	seq    map[string]uint64
}

func newScript(t *testing.T) *script {
	t.Helper()
	life, end := context.WithCancelCause(context.Background())
	end(backend.ErrClosed) // nothing is sent or loaded
	s := &script{t: t, seq: make(map[string]uint64)}
	s.b = &Backend{config: Config{}.withDefaults(), crew: &crew{}, life: life, end: end}
	s.b.cluster = newCluster(life, &dialer{dial: (&net.Dialer{}).DialContext}, []string{"localhost:0"}, 0, s.b.crew)
	s.b.fleet = newFleet(s.b, s.b.cluster, testAckWait, s.b.config.Logger)
	s.b.fleet.out.run = func([]message) {}
	t.Cleanup(s.b.crew.close)
	return s
}

// reads appends messages of a process to the topic, and has ours read them.
func (s *script) reads(from string, m ...message) {
	s.t.Helper()
	s.seq[from]++
	value, err := json.Marshal(envelope{From: from, Seq: s.seq[from], Messages: m})
	must(s.t, err)
	s.offset++
	s.b.fleet.apply(s.offset, &wireRecord{offset: s.offset, timestamp: 1000 + s.offset, value: value})
}

// A process that was killed and started again does not wait for itself.
func TestAProcessThatIsStartedAgainEndsItsPredecessor(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.b.config.Instance = "pod-0"
	f := s.b.fleet
	f.mu.Lock()
	f.state = joining
	f.roster.skip(1)
	f.begin()
	me := f.roster.me
	f.mu.Unlock()
	s.reads("predecessor", message{Kind: msgBeat, Instance: "pod-0"})
	s.reads(me, message{Kind: msgJoin, Instance: "pod-0", Clock: s.offset})
	if !f.roster.admitted {
		t.Errorf("it waits for %v", slices.Collect(maps.Keys(f.roster.peers)))
	}
}

// ranked finds a group that each of the processes would rather lead than those after it.
func ranked(peers ...string) string {
	for i := 0; ; i++ {
		g := fmt.Sprint("g", i)
		if slices.IsSortedFunc(peers, func(a, b string) int { return cmp.Compare(rank(b, g), rank(a, g)) }) {
			return g
		}
	}
}

// Who joins knows some of a group's members before the others, and sees who leads
// among those change. That tells nothing of who really led.
func TestAJoinerDoesNotWaitForLeadersThereNeverWere(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	f := s.b.fleet
	f.mu.Lock()
	f.state = joining
	f.roster.skip(1)
	f.begin()
	me := f.roster.me
	f.mu.Unlock()
	g := ranked(me, "leader", "late", "member")

	s.reads("leader", message{Kind: msgBeat})
	s.reads("member", message{Kind: msgBeat})
	s.reads(me, message{Kind: msgJoin, Clock: s.offset})
	joined := s.offset
	s.reads("member", message{Kind: msgAnnounce, Groups: []string{g}, At: joined})
	s.reads("late", message{Kind: msgJoin, Clock: s.offset}, message{Kind: msgEnter, Groups: []string{g}, At: s.offset})
	s.reads("leader", message{Kind: msgAnnounce, Groups: []string{g}, At: joined})

	sh := &share{b: s.b, log: &logEntry{}, group: &groupEntry{ID: g}, members: []*member{{}}, part: part{me: me, status: entering}}
	f.mu.Lock()
	f.shares[g] = sh
	f.mu.Unlock()
	s.reads(me, message{Kind: msgEnter, Groups: []string{g}})
	for _, id := range []string{"leader", "member", "late"} {
		s.reads(id, message{Kind: msgHello, Group: g, Again: true, At: s.offset})
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.desk == nil || sh.desk.stage == expecting {
		t.Errorf("all have said hello, and the leader does not begin: %+v", sh.desk)
	}
}

// An ack that is on its way to one leader, and is said again to a later one, is
// not confirmed by what that one says of acks before the second time.
func TestAnAckThatIsSaidAgainWaitsForItsOwnConfirmation(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	f := s.b.fleet
	f.mu.Lock()
	f.state = joining
	f.roster.skip(1)
	f.begin()
	me := f.roster.me
	f.mu.Unlock()
	s.reads(me, message{Kind: msgJoin, Clock: s.offset})
	g := ranked("first", "last", me, "other")
	enter := message{Kind: msgEnter, Groups: []string{g}}
	for _, id := range []string{"first", "last", "other"} {
		s.reads(id, message{Kind: msgJoin, Clock: s.offset})
	}
	s.reads("first", enter)
	s.reads("other", enter)
	m := &member{id: 7, held: map[place]*hold{}}
	sh := &share{b: s.b, log: &logEntry{}, group: &groupEntry{ID: g}, members: []*member{m}, part: part{me: me, status: entering}}
	m.s = sh
	f.mu.Lock()
	f.shares[g] = sh
	f.mu.Unlock()
	s.reads(me, enter)
	sh.mu.Lock()
	sh.ack(m, place{0, 5})
	sh.mu.Unlock()
	sh.flush() // and it takes its time
	once := s.numberOf(sh)

	s.reads("first", message{Kind: msgLeave}) // so that it is up to us, until the last one comes
	s.reads("last", enter)
	eventually(t, "the desk that never began to be over", sh.openDesks)
	s.reads(me, message{Kind: msgAck, Group: g, Member: 7, Nr: once, Offsets: map[int32][]int64{0: {5}}})
	s.reads("last", message{Kind: msgConfirm, Group: g, Upto: s.offset})
	again := s.numberOf(sh)
	if again == 0 || again == once {
		t.Fatalf("an ack of which the last leader may have heard nothing counts as committed")
	}
	s.reads(me, message{Kind: msgAck, Group: g, Nr: again, Offsets: map[int32][]int64{0: {5}}})
	s.reads("last", message{Kind: msgConfirm, Group: g, Upto: s.offset})
	if n := s.numberOf(sh); n != 0 {
		t.Errorf("ack %d waits for its confirmation still", n)
	}
}

// numberOf is that of the ack that is not confirmed, 0 if there is none.
func (s *script) numberOf(sh *share) uint64 {
	s.t.Helper()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	switch len(sh.unconfirmed) {
	case 0:
		return 0
	case 1:
		return sh.unconfirmed[0].nr
	}
	s.t.Fatalf("%d acks are not confirmed", len(sh.unconfirmed))
	return 0
}

func (s *share) openDesks() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.part.open > 0 {
		return fmt.Errorf("%d are open", s.part.open)
	}
	return nil
}

// What a member acked may be with a desk that is no longer ours, and is not
// committed yet: Close waits for that.
func TestAMemberLeavesWhenFormerDesksHaveCommitted(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	m := &member{id: 7, held: map[place]*hold{}}
	sh := &share{b: s.b, log: &logEntry{}, group: &groupEntry{ID: "g"}, members: []*member{m}, part: part{status: in, leader: "other", open: 2}}
	m.s = sh
	told := sh.withdraw(m)
	if len(told) != 1 {
		t.Fatalf("it waits for %d answers, want 1", len(told))
	}
	sh.finished()
	if len(told[0]) > 0 {
		t.Error("one has not committed, and it has left")
	}
	sh.finished()
	if len(told[0]) == 0 {
		t.Error("all have committed, and it does not leave")
	}
}
