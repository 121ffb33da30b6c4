package kafkabackend

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
)

// seedOfFleet repeats one history of TestTheFleetAgreesAfterAnyHistory.
const seedOfFleet = "FLEET_SEED"

// TestTheFleetAgreesAfterAnyHistory has processes of a simulated fleet take part in
// groups, in any order of sending and reading, with deaths, expulsions of those that
// live, lost messages and such that are stored twice. Two desks of a group never
// work at once, and when all is quiet each group has what it wants.
func TestTheFleetAgreesAfterAnyHistory(t *testing.T) {
	t.Parallel()
	if s := os.Getenv(seedOfFleet); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		must(t, err)
		simulate(t, seed)
		return
	}
	histories := 2000
	if long() {
		histories = 200_000
	}
	for range histories {
		if simulate(t, rand.Uint64()); t.Failed() {
			return
		}
	}
}

func simulate(t *testing.T, seed uint64) {
	t.Helper()
	w := &world{rnd: rand.New(rand.NewPCG(seed, seed)), clock: 1_000_000}
	w.judge = newRoster(nobody{}, testAckWait, slog.New(slog.DiscardHandler))
	w.judge.gap = false
	defer func() {
		if len(w.faults) == 0 {
			return
		}
		for _, r := range w.topic {
			if r.e.Messages = slices.DeleteFunc(slices.Clone(r.e.Messages), func(m message) bool { return m.Kind == msgBeat }); len(r.e.Messages) > 0 {
				said, err := json.Marshal(r.e)
				must(t, err)
				t.Logf("%d at %d: %s", r.offset, r.at, said)
			}
		}
		t.Errorf("%s=%d repeats this history: %q", seedOfFleet, seed, w.faults[0])
	}()
	for range 3 {
		w.start()
	}
	for range 200 + w.rnd.IntN(200) {
		w.step()
	}
	for n := range 3 * mostOwed {
		w.peace = n > 2*mostMissed // the dead are expelled by then
		w.round()
	}
	w.check()
}

// world is a fleet's topic and the processes that read it.
type world struct {
	rnd    *rand.Rand
	clock  int64 // the broker's, in ms
	topic  []stored
	judge  *roster    // has read all
	late   []envelope // to be stored once more
	procs  []*simulated
	ids    int
	peace  bool // all pay what they owe
	faults []string
}

type stored struct {
	offset, at int64
	e          envelope
}

// nobody listens to a roster.
type nobody struct{}

func (nobody) say(...message)         {}
func (nobody) announcement() message  { return message{} }
func (nobody) changed(string, change) {}
func (nobody) heard(string, *message) {}
func (nobody) beaten()                {}
func (nobody) welcomed()              {}
func (nobody) expelled()              {}

// simulated is a process: a roster and parts as the real ones, and of all else
// only what the protocol is about.
type simulated struct {
	w      *world
	r      *roster
	seq    uint64
	joined bool
	next   int // to be read
	outbox []message
	parts  map[string]*simulatedPart
}

type simulatedPart struct {
	part
	members int
	desk    bool   // with records of the group, not committed
	retired []bool // former desks: whether they have such
}

var simulatedGroups = []string{"g1", "g2", "g3"}

func (w *world) fault(format string, a ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, a...))
}

func (w *world) name() string {
	w.ids++
	return fmt.Sprint("p", w.ids)
}

func (w *world) start() {
	p := &simulated{w: w, parts: make(map[string]*simulatedPart)}
	p.r = newRoster(p, testAckWait, slog.New(slog.DiscardHandler))
	p.next = w.recent()
	if n := len(w.topic); n > 0 {
		p.r.clock = w.topic[n-1].at
	}
	p.r.skip(int64(p.next))
	w.procs = append(w.procs, p)
	p.begin()
}

// recent is where who begins now must read from.
func (w *world) recent() int {
	n := len(w.topic)
	if n == 0 {
		return 0
	}
	limit := w.topic[n-1].at - 3*testAckWait.Milliseconds()
	i, _ := slices.BinarySearchFunc(w.topic, limit, func(s stored, limit int64) int { return int(s.at - limit) })
	return i
}

func (w *world) store(e envelope) {
	offset := int64(len(w.topic))
	w.topic = append(w.topic, stored{offset, w.clock, e})
	w.judge.apply(offset, w.clock, &e)
}

// step has one thing happen.
func (w *world) step() {
	w.clock += w.rnd.Int64N(60)
	p := w.procs[w.rnd.IntN(len(w.procs))]
	switch n := w.rnd.IntN(1000); {
	case n < 350:
		p.send(1 + w.rnd.IntN(3))
	case n < 700:
		p.read()
	case n < 820:
		p.toggle(simulatedGroups[w.rnd.IntN(len(simulatedGroups))])
	case n < 900:
		p.finish(simulatedGroups[w.rnd.IntN(len(simulatedGroups))])
	case n < 950:
		p.say(message{Kind: msgBeat})
	case n < 960:
		if len(w.late) > 0 {
			w.store(w.late[w.rnd.IntN(len(w.late))])
		}
	case n < 970:
		if ids := slices.Sorted(maps.Keys(p.r.peers)); len(ids) > 0 {
			p.say(message{Kind: msgExpel, Peer: ids[w.rnd.IntN(len(ids))], Upto: []int64{p.r.applied, whatever}[w.rnd.IntN(2)]})
		}
	case n < 980:
		w.clock += testAckWait.Milliseconds()
	case n < 985:
		if to := w.recent(); to > p.next { // what was before is not kept
			p.next = to
			p.r.skip(int64(to))
		}
	case n < 992:
		if len(w.procs) > 1 { // killed
			w.procs = slices.DeleteFunc(w.procs, func(o *simulated) bool { return o == p })
		}
	default:
		if len(w.procs) < 5 {
			w.start()
		}
	}
}

// round has all that live do what they must, for as long as a beat lasts.
func (w *world) round() {
	w.clock += testAckWait.Milliseconds() / beats
	for _, p := range w.procs {
		p.say(message{Kind: msgBeat})
	}
	for busy := true; busy && len(w.faults) == 0; {
		busy = false
		for _, p := range w.procs {
			busy = p.send(100) || busy
			for p.read() {
				busy = true
			}
			for _, g := range simulatedGroups {
				busy = p.finish(g) || busy
			}
		}
	}
}

// check: all is as it should be when nothing is left to do.
func (w *world) check() {
	if len(w.faults) > 0 {
		return
	}
	for _, p := range w.procs {
		if !p.r.admitted {
			w.fault("%s is not part of the fleet", p.r.me)
		}
		if !maps.EqualFunc(p.r.members, w.procs[0].r.members, maps.Equal[map[string]bool, map[string]bool]) || len(p.r.peers) != len(w.procs) {
			w.fault("%s and %s disagree: %v, %v", p.r.me, w.procs[0].r.me, p.r.members, w.procs[0].r.members)
		}
	}
	for _, g := range simulatedGroups {
		w.checkGroup(g)
	}
}

func (w *world) checkGroup(g string) {
	members, desks := 0, 0
	for _, p := range w.procs {
		s := p.parts[g]
		if s == nil {
			continue
		}
		want := out
		if s.members > 0 {
			members++
			want = in
		}
		if s.begun {
			desks++
		}
		if s.status != want || s.open != 0 || (want == in && !s.begun && !s.greeted) {
			w.fault("%s in %s: %+v, with %d members", p.r.me, g, s.part, s.members)
		}
	}
	if desks != min(members, 1) {
		w.fault("%s has %d members and %d desks", g, members, desks)
	}
}

func (p *simulated) begin() {
	before := p.r.me
	p.r.me, p.seq, p.joined = p.w.name(), 0, false
	p.say(message{Kind: msgJoin, Clock: p.r.clock})
	if before != "" {
		p.say(message{Kind: msgExpel, Peer: before, Upto: whatever})
	}
}

// say implements audience, as fleet does.
func (p *simulated) say(m ...message) {
	for i := range m {
		m[i].from, m[i].At = p.r.me, p.r.applied
		if p.w.peace && m[i].Kind == msgExpel {
			p.w.fault("%s expels %s, which owes nothing", p.r.me, m[i].Peer)
		}
	}
	p.outbox = append(p.outbox, m...)
}

// send stores what is said, in one record.
func (p *simulated) send(most int) bool {
	p.outbox = slices.DeleteFunc(p.outbox, func(m message) bool { return m.from != p.r.me })
	n := min(most, len(p.outbox))
	if n == 0 {
		return false
	}
	p.seq++
	e := envelope{From: p.r.me, Seq: p.seq, Messages: slices.Clone(p.outbox[:n])}
	p.outbox = p.outbox[n:]
	p.w.store(e)
	if p.w.rnd.IntN(20) == 0 {
		p.w.late = append(p.w.late, e)
	}
	return true
}

func (p *simulated) read() bool {
	if p.next >= len(p.w.topic) {
		return false
	}
	s := p.w.topic[p.next]
	p.next++
	p.r.apply(s.offset, s.at, &s.e)
	return true
}

// toggle has the process have a member more or none in the group.
func (p *simulated) toggle(g string) {
	if !p.joined {
		return
	}
	s := p.parts[g]
	if s == nil {
		s = &simulatedPart{part: part{me: p.r.me}}
		p.parts[g] = s
	}
	if s.members > 0 {
		s.members = 0
	} else {
		s.members++
	}
	p.act(g, 0)
}

// finish has a former desk have committed.
func (p *simulated) finish(g string) bool {
	s := p.parts[g]
	if s == nil || len(s.retired) == 0 {
		return false
	}
	s.retired = s.retired[1:]
	p.act(g, s.finished())
	return true
}

// act does what share.act does.
func (p *simulated) act(g string, do duties) {
	s := p.parts[g]
	if do&doRetire != 0 {
		s.retired = append(s.retired, s.desk)
		s.desk = false
	}
	if do&doBegin != 0 {
		p.alone(g)
		s.desk = true
	}
	if do&doGreet != 0 {
		p.say(message{Kind: msgHello, Group: g})
	}
	if !p.r.admitted {
		return
	}
	switch s.wish(s.members > 0) {
	case doEnter:
		p.say(message{Kind: msgEnter, Groups: []string{g}})
	case doResign:
		p.say(message{Kind: msgResign, Groups: []string{g}})
	case doExit:
		if s.desk || slices.Contains(s.retired, true) {
			p.w.fault("%s exits from %s and has not committed", p.r.me, g)
		}
		p.say(message{Kind: msgExit, Groups: []string{g}})
	}
}

// alone: no other process works on the group. Who is expelled does not count, whether
// it knows or not: that is a matter of time, which the topic knows nothing of.
func (p *simulated) alone(g string) {
	if p.w.judge.peers[p.r.me] == nil {
		return
	}
	for _, o := range p.w.procs {
		s := o.parts[g]
		if s == nil || (o != p && p.r.peers[o.r.me] == nil) {
			continue
		}
		if s.desk || slices.Contains(s.retired, true) {
			p.w.fault("%s begins with %s, for which %s has not committed", p.r.me, g, o.r.me)
		}
	}
}

// announcement implements audience.
func (p *simulated) announcement() message {
	m := message{Kind: msgAnnounce}
	for g, s := range p.parts {
		switch member, mayLead := s.member(); {
		case mayLead:
			m.Groups = append(m.Groups, g)
		case member:
			m.Resigned = append(m.Resigned, g)
		}
	}
	return m
}

// changed implements audience.
func (p *simulated) changed(g string, c change) {
	if s := p.parts[g]; s != nil {
		p.act(g, s.change(&c))
	}
}

// heard implements audience.
func (p *simulated) heard(from string, m *message) {
	if s := p.parts[m.Group]; s != nil && from != p.r.me && m.Kind == msgHello && s.hears(m.At) {
		p.act(m.Group, s.hello(from))
	}
}

// beaten implements audience.
func (p *simulated) beaten() {
	for _, g := range simulatedGroups {
		if s := p.parts[g]; s != nil {
			for _, id := range s.part.beaten() {
				p.say(message{Kind: msgExpel, Peer: id, Upto: whatever})
			}
		}
	}
}

// welcomed implements audience.
func (p *simulated) welcomed() {
	p.joined = true
	for _, g := range simulatedGroups {
		if p.parts[g] != nil {
			p.act(g, 0)
		}
	}
}

// expelled implements audience.
func (p *simulated) expelled() {
	p.begin()
	for _, s := range p.parts {
		s.reset(p.r.me)
		s.desk = false
		for i := range s.retired {
			s.retired[i] = false // not its business any more
		}
	}
}
