package kafkabackend

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// fleet is the processes that share the groups, as they tell each other in a
// topic of one partition. All read the same messages in the same order, and so
// agree on who is there and who leads which group: see roster. What this
// process does in a group is a share's business.
//
// The leader of a group reads the log and hands out its records, to its own
// members first and to those of others when its own have no room: see desk. A
// leader that is no longer one commits the group's positions a last time; all
// members tell the next leader what they hold (hello). Only then does it begin: see part.
//
// A peer beats five times in AckWait. Whoever has seen six of its own beats and
// nothing of another peer meanwhile expels it: what it held goes to others. A
// peer that does not see its own beats stops before that can happen.
type fleet struct {
	b       *Backend
	c       *cluster
	tail    *tail
	ackWait time.Duration
	log     *slog.Logger
	out     batcher[message]

	mu      sync.Mutex
	state   fleetState
	roster  *roster
	seq     uint64
	ready   chan struct{}        // closed when state is partOf
	shares  map[string]*share    // our part in groups, by group
	sent    map[uint64]time.Time // when each of our records left
	lease   chan struct{}        // closed and replaced when until advances
	beating bool

	until atomic.Int64 // when we may have been expelled, in nanoseconds since epoch
}

type fleetState int

const (
	apart fleetState = iota // has not joined
	joining
	partOf
	left
)

func newFleet(b *Backend, c *cluster, ackWait time.Duration, log *slog.Logger) *fleet {
	f := &fleet{
		b: b, c: c, ackWait: ackWait, log: log, ready: make(chan struct{}), lease: make(chan struct{}),
		shares: make(map[string]*share), sent: make(map[uint64]time.Time),
	}
	f.roster = newRoster(f, ackWait, log)
	f.out = batcher[message]{lanes: 1, most: 256, group: c.group, run: f.transmit}
	return f
}

// skipped: messages were removed before we read them.
func (f *fleet) skipped(to int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.roster.skip(to)
}

// join returns when this process is part of the fleet.
func (f *fleet) join(ctx context.Context) error {
	f.mu.Lock()
	if f.state == left {
		f.mu.Unlock()
		return backend.ErrClosed
	}
	if f.state == apart {
		f.state = joining
		f.c.group.Go(f.enlist)
	}
	ready := f.ready
	f.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return contextError(ctx)
	case <-f.c.life.Done():
		return backend.ErrClosed
	}
}

// begin gives this process a new identity. The lock is held.
func (f *fleet) begin() {
	before := f.roster.me
	f.state, f.roster.me, f.seq = joining, rand.Text(), 0
	clear(f.sent)
	f.say(message{Kind: msgJoin, Instance: f.b.config.Instance, Clock: f.roster.clock})
	if before != "" { // the others may not have noticed
		f.say(message{Kind: msgExpel, Peer: before, Upto: whatever})
	}
	if !f.beating {
		f.beating = true
		f.c.group.Go(f.beat)
	}
}

// enlist starts reading where whoever is alive must have been heard of since.
func (f *fleet) enlist() {
	for pause := 5 * time.Millisecond; f.c.life.Err() == nil; pause = min(2*pause, time.Second) {
		from, clock, err := f.whereToBegin()
		if err == nil {
			f.mu.Lock()
			f.roster.clock = clock
			f.roster.skip(from)
			if f.state == joining {
				f.begin() // not before, or our join could be before from
			}
			f.mu.Unlock()
			f.tail.advance(from)
			f.tail.run()
			return
		}
		f.log.Warn("kafka: cannot join the other processes", "error", err)
		select {
		case <-time.After(pause):
		case <-f.c.life.Done():
		}
	}
}

// whereToBegin: 3 AckWaits before the last record's time, by the broker's clock.
func (f *fleet) whereToBegin() (from, clock int64, err error) {
	ctx, cancel := context.WithTimeout(f.c.life, f.c.timeout)
	defer cancel()
	end, err := f.c.offset(ctx, latest, f.tail.at)
	if err != nil || end[0] == 0 {
		return 0, 0, err
	}
	// The clock to go by is the broker's: that of any record at the end.
	_, at, err := f.c.firstFrom(ctx, f.tail.at, end[0]-1, nil)
	if err != nil || at.IsZero() {
		return 0, 0, err
	}
	first, err := f.c.offset(ctx, at.Add(-3*f.ackWait).UnixMilli(), f.tail.at)
	if err != nil {
		return 0, 0, err
	}
	if first[0] < 0 {
		return end[0], at.UnixMilli(), nil
	}
	return first[0], at.UnixMilli(), nil
}

// beat says that we live, for as long as the backend does.
func (f *fleet) beat() {
	tick := time.NewTicker(f.ackWait / beats)
	defer tick.Stop()
	for {
		done := make(chan error, 1)
		f.tell(message{Kind: msgBeat, Instance: f.b.config.Instance, done: done})
		select { // one at a time: an outage must not have them pile up
		case <-done:
		case <-f.c.life.Done():
			return
		}
		tick.Reset(f.ackWait / beats)
		select {
		case <-tick.C:
		case <-f.c.life.Done():
			return
		}
	}
}

// epoch is what until counts from, by the monotonic clock.
var epoch = time.Now()

// holding reports whether we may be sure not to have been expelled.
func (f *fleet) holding() bool { return int64(time.Since(epoch)) < f.until.Load() }

// renewed is closed when that may have changed for the better.
func (f *fleet) renewed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lease
}

// apply takes in one record. It is called by the tail alone, in order.
func (f *fleet) apply(offset int64, w *wireRecord) {
	var e envelope
	if json.Unmarshal(w.value, &e) != nil || e.From == "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.log.Enabled(f.c.life, slog.LevelDebug) {
		f.log.Debug("kafka: read", "by", f.roster.me, "offset", offset, "said", string(w.value))
	}
	f.roster.apply(offset, w.timestamp, &e)
	if e.From == f.roster.me && f.roster.peers[e.From] != nil {
		f.cameBack(e.Seq)
	}
}

// cameBack notes that a record of ours is where all can read it.
func (f *fleet) cameBack(seq uint64) {
	if at, ok := f.sent[seq]; ok {
		f.until.Store(int64(at.Sub(epoch) + f.ackWait*3/4))
		for s := range f.sent {
			if s <= seq {
				delete(f.sent, s)
			}
		}
		close(f.lease)
		f.lease = make(chan struct{})
	}
}

// announcement implements audience.
func (f *fleet) announcement() message {
	m := message{Kind: msgAnnounce}
	for g, s := range f.shares {
		switch member, mayLead := s.standing(); {
		case mayLead:
			m.Groups = append(m.Groups, g)
		case member:
			m.Resigned = append(m.Resigned, g)
		}
	}
	return m
}

// changed implements audience.
func (f *fleet) changed(g string, c change) {
	if s := f.shares[g]; s != nil {
		s.change(&c)
	}
}

// heard implements audience.
func (f *fleet) heard(from string, m *message) {
	if s := f.shares[m.Group]; s != nil {
		s.hear(from, m)
	}
}

// beaten implements audience: debts to our shares are counted by our beats.
func (f *fleet) beaten() {
	debtors := make(map[string]string)
	for g, s := range f.shares {
		for _, id := range s.beaten() {
			debtors[id] = g
		}
	}
	for id, g := range debtors {
		f.log.Warn("kafka: another process lives, but does not hand on what it led", "peer", id, "group", g)
		f.say(message{Kind: msgExpel, Peer: id, Upto: whatever})
	}
}

// welcomed implements audience.
func (f *fleet) welcomed() {
	if f.state != joining {
		return
	}
	f.state = partOf
	close(f.ready)
	for _, s := range f.shares { // after we were expelled
		s.look()
	}
}

// expelled implements audience. What our members hold goes to others; we come
// again, as somebody else.
func (f *fleet) expelled() {
	if f.state == left || f.state == apart {
		return
	}
	if f.state == partOf {
		f.log.Warn("kafka: other processes took over what this one held, as nothing was heard of it", "within", f.ackWait)
		f.ready = make(chan struct{})
	}
	f.until.Store(0)
	f.begin()
	for _, s := range f.shares {
		s.reset()
	}
}

// is: we are still who we were.
func (f *fleet) is(me string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.roster.me == me
}

// quiet: we are in no group.
func (f *fleet) quiet() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	me := f.roster.peers[f.roster.me]
	return f.state != partOf || me == nil || len(me.groups) == 0
}

// leave says that we are gone for good.
func (f *fleet) leave() chan error {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.state
	f.state = left
	if was != partOf {
		return nil
	}
	done := make(chan error, 1)
	f.say(message{Kind: msgLeave, done: done})
	return done
}
