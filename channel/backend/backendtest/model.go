package backendtest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

var modelProperties = []property{
	{"no history of calls loses a record or brings back a settled one", randomHistory},
}

// seedVariable repeats a random history: its calls, though not their timing.
const seedVariable = "BACKENDTEST_SEED"

// model is what the contract says of two logs while random calls are made on
// them: one unordered, one ordered.
type model struct {
	f      *fixture
	rnd    *rand.Rand
	ctx    context.Context
	cancel context.CancelFunc
	pumps  sync.WaitGroup

	admin  backend.Backend // never closed or killed
	conns  []backend.Backend
	groups []*modelGroup
	logs   []string          // the second one is ordered
	next   [2]map[string]int // each log's next number for a key

	mu sync.Mutex // guards what is inside groups and members
}

type modelGroup struct {
	log, name string
	expected  map[string]bool         // accepted since it was made
	reached   map[string]bool         // received by some member
	holder    map[string]*modelMember // received and not acked
	settled   map[string]bool         // acked, and the member then left in order
	keeper    *keeper                 // of an ordered log
	members   []*modelMember
}

type modelMember struct {
	order orderMember // name and keeper's state
	group *modelGroup
	conn  backend.Backend
	sub   backend.Subscription
	gone  bool
	held  []*backend.Delivery
	acked []string
}

func randomHistory(f *fixture) {
	seed := rand.Uint64()
	if s := os.Getenv(seedVariable); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			f.Fatalf("%s: %v", seedVariable, err)
		}
	}
	f.Logf("%s=%d repeats this history", seedVariable, seed)
	m := newModel(f, seed)
	for range 250 {
		m.step()
	}
	m.finish()
}

func newModel(f *fixture, seed uint64) *model {
	m := &model{f: f, rnd: rand.New(rand.NewPCG(seed, seed)), admin: f.connect()}
	m.ctx, m.cancel = context.WithCancel(f.ctx())
	f.Cleanup(func() {
		m.cancel()
		m.pumps.Wait()
	})
	m.next = [2]map[string]int{make(map[string]int), make(map[string]int)}
	m.conns = []backend.Backend{f.connect(), f.connect()}
	m.logs = []string{f.log(m.admin, false), f.log(m.admin, true)}
	for _, log := range m.logs {
		m.addGroup(log)
	}
	return m
}

// step makes one random call.
func (m *model) step() {
	g := m.groups[m.rnd.IntN(len(m.groups))]
	switch n := m.rnd.IntN(100); {
	case n < 45:
		m.publish(m.rnd.IntN(2))
	case n < 80:
		m.ackOne(g)
	case n < 90:
		m.join(g, m.conns[m.rnd.IntN(2)])
	case n < 95:
		if len(g.members) > 0 {
			m.leave(g.members[m.rnd.IntN(len(g.members))])
		}
	case n < 97:
		if len(m.groups) < 6 {
			m.addGroup(g.log)
		}
	default:
		m.replace(m.rnd.IntN(2), n == 99)
	}
}

func (m *model) addGroup(log string) {
	g := &modelGroup{
		log: log, name: fmt.Sprint("g", len(m.groups)), expected: make(map[string]bool), reached: make(map[string]bool),
		holder: make(map[string]*modelMember), settled: make(map[string]bool),
	}
	if log == m.logs[1] {
		g.keeper = newKeeper()
		g.keeper.start = maps.Clone(m.next[1])
	}
	m.f.ensureGroups(m.admin, log, g.name)
	m.groups = append(m.groups, g)
}

// nameOf tells the records of a log apart: key and number.
func nameOf(r *backend.Record) string { return r.Key + string(r.Data) }

func (m *model) publish(log int) {
	key := orderKeys[m.rnd.IntN(len(orderKeys))]
	r := record(strconv.Itoa(m.next[log][key]), key)
	m.next[log][key]++
	m.mu.Lock() // it may be received before Publish returns
	for _, g := range m.groups {
		if g.log == m.logs[log] {
			g.expected[nameOf(r)] = true
		}
	}
	m.mu.Unlock()
	m.f.publishRecord(m.conns[m.rnd.IntN(2)], m.logs[log], r)
}

func (m *model) join(g *modelGroup, conn backend.Backend) {
	if len(g.members) == 3 {
		return
	}
	o := backend.Options{Window: 1 + m.rnd.IntN(10), Buffer: 1 + m.rnd.IntN(100)}
	s := &modelMember{group: g, conn: conn, sub: m.f.subscribe(conn, g.log, g.name, o)}
	s.order.name = fmt.Sprintf("member %d of %s", len(g.members), g.name)
	g.members = append(g.members, s)
	m.pumps.Go(func() {
		for {
			d, err := s.sub.Receive(m.ctx)
			m.mu.Lock()
			ended := s.gone || m.ctx.Err() != nil
			if err == nil && !ended {
				m.received(s, d)
			}
			m.mu.Unlock()
			if err != nil {
				if !ended {
					m.f.Errorf("Receive: %v", err)
				}
				return
			}
		}
	})
}

// received holds a delivery against the contract. m.mu is held.
func (m *model) received(s *modelMember, d *backend.Delivery) {
	g, id := s.group, nameOf(&d.Record)
	switch holder := g.holder[id]; {
	case !g.expected[id]:
		m.f.Errorf("group %s received %q, which was not published to it", g.name, id)
	case g.settled[id]:
		m.f.Errorf("group %s received %s, which was acked by a member that left in order", g.name, id)
	case holder != nil:
		m.f.Errorf("%s received %s, which %s holds", s.order.name, id, holder.order.name)
	}
	if g.keeper != nil {
		if err := g.keeper.delivered(&s.order, d); err != nil {
			m.f.Error(err)
		}
	}
	g.reached[id] = true
	g.holder[id] = s
	s.held = append(s.held, d)
}

// ackOne acks a record that some member of the group holds.
func (m *model) ackOne(g *modelGroup) {
	m.mu.Lock()
	var s *modelMember
	var d *backend.Delivery
	if len(g.members) > 0 {
		s = g.members[m.rnd.IntN(len(g.members))]
		if len(s.held) > 0 {
			i := m.rnd.IntN(len(s.held))
			d = s.held[i]
			s.held = slices.Delete(s.held, i, i+1)
			s.acked = append(s.acked, nameOf(&d.Record))
			delete(g.holder, nameOf(&d.Record))
			if g.keeper != nil {
				g.keeper.acking(&s.order, d)
			}
		}
	}
	m.mu.Unlock()
	if d != nil {
		m.f.ack(s.sub, d)
	}
}

// forget takes a member out of the model before it ends.
func (m *model) forget(s *modelMember) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.gone = true
	for _, d := range s.held {
		delete(s.group.holder, nameOf(&d.Record))
	}
	if s.group.keeper != nil {
		s.group.keeper.leaving(&s.order)
	}
	s.group.members = slices.DeleteFunc(s.group.members, func(o *modelMember) bool { return o == s })
}

// settle notes that what a member acked is settled for good.
func (m *model) settle(s *modelMember) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range s.acked {
		s.group.settled[id] = true
	}
}

func (m *model) leave(s *modelMember) {
	m.forget(s)
	m.f.closeSub(s.sub)
	m.settle(s)
}

// replace ends a connection, in order or not, and makes another.
func (m *model) replace(i int, kill bool) {
	var ending []*modelMember
	for _, g := range m.groups {
		for _, s := range slices.Clone(g.members) {
			if s.conn == m.conns[i] {
				m.forget(s)
				ending = append(ending, s)
			}
		}
	}
	if kill && m.f.h.Kill != nil {
		m.f.kill(m.conns[i])
	} else {
		m.f.closeBackend(m.conns[i])
		for _, s := range ending {
			m.settle(s)
		}
	}
	m.conns[i] = m.f.connect()
}

// finish has a last member of each group receive all that is left.
func (m *model) finish() {
	for _, g := range m.groups {
		for len(g.members) > 0 {
			m.leave(g.members[0])
		}
		m.join(g, m.conns[0])
		m.f.eventually("settling the rest of "+g.name, func() error {
			for range 20 {
				m.ackOne(g)
			}
			lag, err := m.admin.Lag(m.ctx, g.log, g.name)
			if err == nil && lag.Records > 0 {
				err = fmt.Errorf("%d records are left", lag.Records)
			}
			return err
		})
		m.mu.Lock()
		for id := range g.expected {
			if !g.reached[id] {
				m.f.Errorf("record %s never reached group %s", id, g.name)
			}
		}
		m.mu.Unlock()
		m.leave(g.members[0])
	}
}
