package kafkabackend

import (
	"hash/fnv"
	"log/slog"
	"maps"
	"math"
	"slices"
	"time"
)

// roster is who is there, and who is in which group, as the fleet's topic says it.
// It has no clock and sends nothing by itself: all that have read the same
// messages agree on it, at every offset.
//
//	join J  enter J {g1}  enter P {g1}  beat P  beat J  ...  expel J   exit P {g1}
//	        J leads g1    the members of g1 are J, P; one of them        nobody does
//	                      leads: the highest hash(peer, group)
//
// Who comes later than the messages it can read learns from each peer what that
// one is in: all peers announce it when they read a join. The answer is the
// whole truth about its sender at its own place in the topic, so that nothing
// need be known of what was before. What follows from the past, such as
// who led whom, is not in here: a leader begins with asking the members (see part).
//
// Every peer owes something at times: a sign of life to all, an announcement to
// one who joins, a hello to a leader. Each of these debts ends with its being
// paid, with the debtor's leave, or with its expulsion by the one who waits.
type roster struct {
	to      audience
	ackWait time.Duration
	log     *slog.Logger

	me       string
	admitted bool             // we know all that the others know
	applied  int64            // the offset being applied, or last applied
	clock    int64            // the broker's, there
	first    int64            // all from this offset on was read
	joined   int64            // where our join is
	gap      bool             // that is not enough to know who is there
	ended    map[string]int64 // peers that are gone, since when
	peers    map[string]*peer
	members  map[string]map[string]bool // peers by group; true: it may lead
}

// audience is for whom a roster is read.
type audience interface {
	say(m ...message)
	// announcement tells what we have said that we are in.
	announcement() message
	// changed: the members of a group are others.
	changed(g string, c change)
	// heard: a peer says something to a group's leader, or that one to it.
	heard(from string, m *message)
	// beaten: a beat of ours came back.
	beaten()
	// welcomed: we are part of it.
	welcomed()
	// expelled: the others hold us for dead.
	expelled()
}

type peer struct {
	id, instance string
	announced    bool
	heard        int64 // broker's time of its last message
	last         int64 // and its offset
	missed       int   // beats of ours since then
	waited       int   // beats of ours that its announcement is owed for
	seq          uint64
	groups       map[string]bool
}

// change is what happened to a group's members; one of them is named.
type change struct {
	entered, resigned, exited string
	leader                    string
	members                   map[string]bool // not to be kept
	at                        int64
}

const (
	// beats is how often a peer shows that it lives, in AckWait.
	beats = 5
	// mostMissed is how many beats of ours a peer may miss.
	mostMissed = beats + 1
	// mostOwed is how many beats of ours a peer that lives may owe us
	// something that we wait for.
	mostOwed = 3 * mostMissed
	// stale is how many AckWaits a join may be on its way. One that is stored
	// later, perhaps once more, is nobody's join: who reads it may have
	// forgotten, or never heard, that this peer has gone meanwhile.
	stale = 2
	// whatever a peer says, it is to be expelled.
	whatever = math.MaxInt64
)

func newRoster(to audience, ackWait time.Duration, log *slog.Logger) *roster {
	return &roster{
		to: to, ackWait: ackWait, log: log, gap: true, ended: make(map[string]int64),
		peers: make(map[string]*peer), members: make(map[string]map[string]bool),
	}
}

// skip: what is before an offset is not read. Who does not know what was said
// is not part of it.
func (r *roster) skip(to int64) {
	r.applied, r.first, r.gap = to-1, to, true
	for _, p := range r.peers {
		p.announced, p.waited = false, 0
		clear(p.groups)
	}
	clear(r.members)
	if r.me == "" {
		return
	}
	// Our join may be among it. Who we were is a peer until all read otherwise.
	r.admitted = false
	r.to.expelled()
}

// apply takes in one record of the topic.
func (r *roster) apply(offset, at int64, e *envelope) {
	r.applied, r.clock = offset, at
	_, over := r.ended[e.From] // and does not know, or a record is stored late once more
	if m := e.join(); m != nil && r.peers[e.From] == nil && !over {
		if at-m.Clock <= (stale * r.ackWait).Milliseconds() {
			r.join(e.From, m.Instance)
		} else if e.From == r.me {
			r.ended[r.me] = at
			r.expulsions(e)
			r.to.expelled() // so that we try again
			return
		}
	}
	p := r.peers[e.From]
	if p == nil {
		if !r.gap || over {
			r.expulsions(e)
			return
		}
		p = r.add(e.From, "")
	}
	p.heard, p.last, p.missed = at, offset, 0
	if e.Seq <= p.seq {
		return // stored twice
	}
	p.seq = e.Seq
	for i := range e.Messages {
		if r.peers[e.From] != p {
			return // by its own words
		}
		r.take(p, &e.Messages[i])
	}
}

// expulsions are everybody's to say, also of who is gone: one who reads this and
// is on the way to its join cannot know.
func (r *roster) expulsions(e *envelope) {
	for i := range e.Messages {
		if e.Messages[i].Kind == msgExpel {
			r.expel(&e.Messages[i])
		}
	}
}

// expel ends a peer, unless it was heard of since that was said: it believes then
// that it lives.
func (r *roster) expel(m *message) {
	last := r.first - 1 // or before: we have not read that
	if p := r.peers[m.Peer]; p != nil {
		last = max(last, p.last)
	}
	if last <= m.Upto {
		r.remove(m.Peer)
	}
}

func (r *roster) add(id, instance string) *peer {
	p := &peer{id: id, instance: instance, groups: make(map[string]bool)}
	r.peers[id] = p
	return p
}

// join: a new peer. Who has not been heard of for long by then is gone, for
// all that read this: the new one cannot have seen it.
//
// Before our own join we cannot tell a join from one that is stored once more,
// which is not news to the others, and just note that there is somebody.
func (r *roster) join(id, instance string) {
	if r.gap && id != r.me {
		r.add(id, instance)
		return
	}
	maps.DeleteFunc(r.ended, func(_ string, since int64) bool { return since < r.clock-(2*stale*r.ackWait).Milliseconds() })
	limit := r.clock - (r.ackWait + r.ackWait/2).Milliseconds()
	for other, p := range r.peers {
		if p.heard < limit || (instance != "" && p.instance == instance) {
			r.remove(other)
		}
	}
	p := r.add(id, instance)
	p.announced, p.heard, p.last = true, r.clock, r.applied
	if id == r.me {
		// All that live have been heard of on the way here.
		r.joined, r.gap = r.applied, false
		r.settle()
	} else if r.peers[r.me] != nil {
		r.to.say(r.to.announcement())
	}
}

func (r *roster) take(p *peer, m *message) {
	switch m.Kind {
	case msgJoin:
	case msgBeat:
		p.instance = m.Instance
		if p.id == r.me {
			r.count()
			r.to.beaten()
		}
	case msgAnnounce:
		r.announced(p, m)
	case msgLeave:
		r.remove(p.id)
	case msgExpel:
		r.expel(m)
	case msgEnter:
		for _, g := range m.Groups {
			r.enter(p, g, true)
			r.changed(g, change{entered: p.id})
		}
	case msgResign:
		for _, g := range m.Groups {
			if p.groups[g] {
				r.enter(p, g, false)
				r.changed(g, change{resigned: p.id})
			}
		}
	case msgExit:
		for _, g := range m.Groups {
			if p.groups[g] {
				r.exit(p, g)
				r.changed(g, change{exited: p.id})
			}
		}
	default:
		r.to.heard(p.id, m)
	}
}

// announced: a peer tells what it is in.
func (r *roster) announced(p *peer, m *message) {
	if p.announced || r.gap || m.At < r.joined {
		return // not for us: it may be one that is stored once more
	}
	for g := range p.groups {
		r.exit(p, g)
	}
	for _, g := range m.Groups {
		r.enter(p, g, true)
	}
	for _, g := range m.Resigned {
		r.enter(p, g, false)
	}
	p.announced = true
	r.settle()
}

// count notes one more beat of ours that others were silent for, or that they
// owe us an announcement for.
func (r *roster) count() {
	for id, p := range r.peers {
		if id == r.me {
			continue
		}
		if p.missed++; p.missed >= mostMissed {
			p.missed = 0
			r.log.Info("kafka: another process has died, or cannot reach the broker", "peer", id)
			r.to.say(message{Kind: msgExpel, Peer: id, Upto: p.last})
		}
		if !p.announced {
			if p.waited++; p.waited >= mostOwed {
				p.waited = 0
				r.log.Warn("kafka: another process lives, but does not answer", "peer", id)
				r.to.say(message{Kind: msgExpel, Peer: id, Upto: whatever})
			}
		}
	}
}

// settle makes us part of it when all peers that we found have announced.
func (r *roster) settle() {
	if r.admitted || r.peers[r.me] == nil {
		return
	}
	for _, p := range r.peers {
		if !p.announced {
			return
		}
	}
	r.admitted = true
	r.to.welcomed()
}

// remove ends a peer.
func (r *roster) remove(id string) {
	r.ended[id] = r.clock
	p := r.peers[id]
	if p == nil {
		return
	}
	delete(r.peers, id)
	groups := slices.Collect(maps.Keys(p.groups))
	for _, g := range groups {
		r.exit(p, g)
	}
	if id == r.me {
		r.admitted = false
		r.to.expelled()
		return
	}
	for _, g := range groups {
		r.changed(g, change{exited: id})
	}
	r.settle()
}

func (r *roster) enter(p *peer, g string, mayLead bool) {
	p.groups[g] = true
	if r.members[g] == nil {
		r.members[g] = make(map[string]bool)
	}
	r.members[g][p.id] = mayLead
}

func (r *roster) exit(p *peer, g string) {
	delete(p.groups, g)
	delete(r.members[g], p.id)
	if len(r.members[g]) == 0 {
		delete(r.members, g)
	}
}

func (r *roster) changed(g string, c change) {
	c.leader, c.members, c.at = r.leader(g), r.members[g], r.applied
	r.to.changed(g, c)
}

func (r *roster) leader(g string) (leader string) {
	var highest uint64
	for id, mayLead := range r.members[g] {
		if v := rank(id, g); mayLead && (leader == "" || v > highest || (v == highest && id > leader)) {
			leader, highest = id, v
		}
	}
	return leader
}

// rank says who leads: the member with the highest one.
func rank(id, g string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	_, _ = h.Write([]byte(g))
	v := h.Sum64()
	v ^= v >> 33 // FNV alone orders such names badly
	v *= 0xff51afd7ed558ccd
	return v ^ v>>33
}
