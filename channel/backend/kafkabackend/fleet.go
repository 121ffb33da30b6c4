package kafkabackend

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"hash/fnv"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// fleet is the processes that share the groups, as they tell each other in a
// topic of one partition. All read the same messages in the same order, and so
// agree on who is there and who leads which group, at every offset.
//
//	join J  enter J {g1}  enter P {g1}  beat P  beat J  ...  expel J   exit P {g1}
//	        J leads g1    the members of g1 are J, P; one of them        nobody does
//	                      leads: the highest hash(peer, group)
//
// The leader of a group reads the log and hands out its records, to its own
// members first and to those of others when its own have no room: see desk. A
// leader that is no longer one commits the group's positions a last time, and says so
// (final); all members tell the next leader what they hold (hello). Only then does it begin.
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
	me      string
	seq     uint64
	applied int64         // the offset being applied, or last applied
	ready   chan struct{} // closed when state is ready
	peers   map[string]*peer
	members map[string]map[string]bool // peers by group
	owed    map[string]map[string]bool // peers that owe a final, by group
	shares  map[string]*share          // our part in groups, by group
	sent    map[uint64]time.Time       // when each of our records left
	lease   chan struct{}              // closed and replaced when until advances
	beating bool
	start   int64 // what was before it we have not read, as who we are now

	until atomic.Int64 // when we may have been expelled, in nanoseconds since epoch
}

type fleetState int

const (
	apart fleetState = iota // has not joined
	joining
	partOf
	left
)

type peer struct {
	id, instance string
	announced    bool
	undone       map[string]int64 // what it ended, by offset, until it has announced
	heard        int64            // broker's time of its last message
	missed       int              // beats of ours since then
	seq          uint64
	groups       map[string]bool
}

// Beats in AckWait, and how many of ours a peer may miss.
const (
	beats      = 5
	mostMissed = beats + 1
)

func newFleet(b *Backend, c *cluster, ackWait time.Duration, log *slog.Logger) *fleet {
	f := &fleet{
		b: b, c: c, ackWait: ackWait, log: log, ready: make(chan struct{}), lease: make(chan struct{}),
		peers: make(map[string]*peer), members: make(map[string]map[string]bool),
		owed: make(map[string]map[string]bool), shares: make(map[string]*share), sent: make(map[uint64]time.Time),
	}
	f.out = batcher[message]{lanes: 1, most: 256, group: c.group, run: f.transmit}
	return f
}

// skipped: messages were removed before we read them. Who does not know what was
// said is not part of it.
func (f *fleet) skipped(to int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.applied = to; f.peers[f.me] != nil {
		f.remove(f.me)
	}
}

// join returns when this process is part of the fleet.
func (f *fleet) join(ctx context.Context) error {
	f.mu.Lock()
	if f.state == left {
		f.mu.Unlock()
		return backend.ErrClosed
	}
	if f.state == apart {
		f.begin()
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
	f.state, f.me, f.seq = joining, rand.Text(), 0
	clear(f.sent)
	f.say(message{Kind: msgJoin, Instance: f.b.config.Instance})
	if !f.beating {
		f.beating = true
		f.c.group.Go(f.beat)
	}
}

// enlist starts reading where whoever is alive must have been heard of since.
func (f *fleet) enlist() {
	for pause := 5 * time.Millisecond; f.c.life.Err() == nil; pause = min(2*pause, time.Second) {
		from, err := f.whereToBegin()
		if err == nil {
			f.mu.Lock()
			f.start = from
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
func (f *fleet) whereToBegin() (int64, error) {
	ctx, cancel := context.WithTimeout(f.c.life, f.c.timeout)
	defer cancel()
	end, err := f.c.offset(ctx, latest, f.tail.at)
	if err != nil {
		return 0, err
	}
	// The clock to go by is the broker's: that of any record at the end.
	if end[0] == 0 {
		return 0, nil
	}
	_, at, err := f.c.firstFrom(ctx, f.tail.at, end[0]-1, nil)
	if err != nil || at.IsZero() {
		return 0, err
	}
	from, err := f.c.offset(ctx, at.Add(-3*f.ackWait).UnixMilli(), f.tail.at)
	if err != nil {
		return 0, err
	}
	if from[0] < 0 {
		return end[0], nil
	}
	return from[0], nil
}

// beat says that we live, for as long as the backend does.
func (f *fleet) beat() {
	tick := time.NewTicker(f.ackWait / beats)
	defer tick.Stop()
	for {
		done := make(chan error, 1)
		f.tell(message{Kind: msgBeat, done: done})
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
	f.applied = offset
	for i := range e.Messages {
		if e.Messages[i].Kind == msgJoin && f.peers[e.From] == nil {
			f.applyJoin(&e, &e.Messages[i], w.timestamp)
		}
	}
	p := f.peers[e.From]
	if p == nil {
		if f.state != joining || f.peers[f.me] != nil {
			return // expelled, and does not know yet
		}
		// We are still on the way to our own join.
		p = f.newPeer(e.From, "")
	}
	p.heard, p.missed = w.timestamp, 0
	if e.Seq <= p.seq {
		return // stored twice
	}
	p.seq = e.Seq
	if e.From == f.me {
		f.cameBack(e.Seq)
	}
	for i := range e.Messages {
		f.applyMessage(p, &e.Messages[i], offset)
	}
}

func (f *fleet) newPeer(id, instance string) *peer {
	p := &peer{id: id, instance: instance, groups: make(map[string]bool)}
	f.peers[id] = p
	return p
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

// applyJoin: a new peer. Who has not been heard of for long by then is gone, for
// all that read this: the new one cannot have seen it.
func (f *fleet) applyJoin(e *envelope, m *message, now int64) {
	limit := now - (f.ackWait + f.ackWait/2).Milliseconds()
	for id, p := range f.peers {
		if p.heard < limit || (m.Instance != "" && p.instance == m.Instance) {
			f.remove(id)
		}
	}
	p := f.newPeer(e.From, m.Instance)
	p.announced = true
	p.heard = now
	if e.From == f.me {
		f.settle()
		return
	}
	if f.peers[f.me] != nil {
		f.announce()
	}
}

func (f *fleet) applyMessage(p *peer, m *message, offset int64) {
	switch m.Kind {
	case msgBeat:
		if p.id == f.me {
			f.countMissed()
		}
	case msgAnnounce:
		f.announced(p, m)
	case msgLeave:
		f.remove(p.id)
	case msgExpel:
		f.remove(m.Peer)
	case msgEnter:
		for _, g := range m.Groups {
			f.entered(p, g)
		}
	case msgExit:
		for _, g := range m.Groups {
			f.undo(p, msgExit, g, offset)
			f.exited(p, g)
		}
	case msgFinal:
		f.undo(p, msgFinal, m.Group, offset)
		delete(f.owed[m.Group], p.id)
		f.progress(m.Group)
	default:
		if s := f.shares[m.Group]; s != nil {
			s.hear(p.id, m)
		}
	}
}

// countMissed: one more beat of ours that others were silent for.
func (f *fleet) countMissed() {
	for id, p := range f.peers {
		if id == f.me {
			continue
		}
		if p.missed++; p.missed >= mostMissed && f.peers[f.me] != nil {
			p.missed = 0
			f.log.Info("kafka: another process has died, or cannot reach the broker", "peer", id)
			f.say(message{Kind: msgExpel, Peer: id})
		}
	}
}

// settle makes us part of the fleet when all peers that we found have told what
// groups they are in.
func (f *fleet) settle() {
	if f.state != joining || f.peers[f.me] == nil {
		return
	}
	for _, p := range f.peers {
		if !p.announced {
			return
		}
	}
	f.state = partOf
	close(f.ready)
	var groups []string
	for g, s := range f.shares { // after we were expelled
		if s.wanted() {
			groups = append(groups, g)
		}
	}
	if len(groups) > 0 {
		f.say(message{Kind: msgEnter, Groups: groups})
	}
}

// remove ends a peer.
func (f *fleet) remove(id string) {
	p := f.peers[id]
	if p == nil {
		return
	}
	delete(f.peers, id)
	if id == f.me {
		f.lost()
		return
	}
	for g, who := range f.owed {
		if who[id] {
			delete(who, id)
			f.progress(g)
		}
	}
	for g := range p.groups {
		f.removed(id, g)
	}
	f.settle()
}

// lost: others have expelled us. What our members hold goes to others; we come
// again, as somebody else.
func (f *fleet) lost() {
	if f.state == left || f.state == apart {
		return
	}
	f.log.Warn("kafka: other processes took over what this one held, as nothing was heard of it", "within", f.ackWait)
	if f.state == partOf {
		f.ready = make(chan struct{})
	}
	f.until.Store(0)
	for _, p := range f.peers { // they answer our join
		p.announced, p.missed = false, 0
		clear(p.groups)
	}
	clear(f.members)
	clear(f.owed)
	f.start = f.applied
	for _, s := range f.shares {
		s.reset()
	}
	f.begin()
}

func (f *fleet) enter(p *peer, g string) {
	p.groups[g] = true
	if f.members[g] == nil {
		f.members[g] = make(map[string]bool)
	}
	f.members[g][p.id] = true
}

func (f *fleet) leader(g string) (leader string) {
	var highest uint64
	for id := range f.members[g] {
		h := fnv.New64a()
		_, _ = h.Write([]byte(id))
		_, _ = h.Write([]byte(g))
		v := h.Sum64()
		v ^= v >> 33 // FNV alone orders such names badly
		v *= 0xff51afd7ed558ccd
		v ^= v >> 33
		if leader == "" || v > highest || (v == highest && id > leader) {
			leader, highest = id, v
		}
	}
	return leader
}

func (f *fleet) owe(g, id string) {
	if f.owed[g] == nil {
		f.owed[g] = make(map[string]bool)
	}
	f.owed[g][id] = true
}

func (f *fleet) entered(p *peer, g string) {
	before := f.leader(g)
	f.enter(p, g)
	f.change(g, before, p.id, "")
}

func (f *fleet) exited(p *peer, g string) {
	if !p.groups[g] {
		return
	}
	before := f.leader(g)
	delete(p.groups, g)
	delete(f.members[g], p.id)
	if len(f.members[g]) == 0 {
		delete(f.members, g)
	}
	f.change(g, before, "", p.id)
}

// removed is exited for a peer that is no more: it owes nothing.
func (f *fleet) removed(id, g string) {
	before := f.leader(g)
	delete(f.members[g], id)
	if len(f.members[g]) == 0 {
		delete(f.members, g)
	}
	if before == id {
		before = ""
	}
	f.change(g, before, "", id)
}

// change: the members of a group are others now; before is the former leader,
// if it still lives.
func (f *fleet) change(g, before, entered, exited string) {
	now := f.leader(g)
	if before != "" && before != now {
		f.owe(g, before)
	}
	s := f.shares[g]
	if s == nil {
		return
	}
	s.change(now, entered, exited)
	if s.over() {
		delete(f.shares, g)
	}
	f.progress(g)
}

// progress has a leader that waits for others look again.
func (f *fleet) progress(g string) {
	if len(f.owed[g]) == 0 {
		delete(f.owed, g)
		if s := f.shares[g]; s != nil {
			s.progress()
		}
	}
}

// is: we are still who we were.
func (f *fleet) is(me string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.me == me
}

// quiet: we are in no group, and owe nothing.
func (f *fleet) quiet() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != partOf {
		return true
	}
	if p := f.peers[f.me]; p != nil && len(p.groups) > 0 {
		return false
	}
	for _, who := range f.owed {
		if who[f.me] {
			return false
		}
	}
	return true
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
