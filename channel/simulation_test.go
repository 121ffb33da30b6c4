package channel_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend/faultbackend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
)

// seeds of a normal run; SIDESTEP_SEED=N runs that one alone.
const seeds = 60

// TestNoEventIsLostInAnySimulatedHistory runs seeded histories in simulated
// time: sequences of random shape, steps that fail, hang and answer late, a
// backend that fails, delays, loses confirmations and repeats, and processes
// that are killed and started again. Whatever happens, each event that was
// accepted ends at its last step or at a dead letter sink, and nothing is left
// over.
func TestNoEventIsLostInAnySimulatedHistory(t *testing.T) {
	simulate(t, seeds, func(t *testing.T, seed uint64) { newSimulation(t, seed).run() })
}

func simulate(t *testing.T, seeds uint64, history func(t *testing.T, seed uint64)) {
	t.Helper()
	if s := os.Getenv("SIDESTEP_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) { history(t, seed) })
		return
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { history(t, seed) })
		})
	}
}

// simulation is one history.
type simulation struct {
	*world
	r      *rand.Rand
	seed   uint64
	length int
	table  []*channel.Channel
	starts int
	// payloads has half of the events be large; may be nil.
	payloads *simulatedPayloads

	mu       sync.Mutex
	healthy  bool // nothing fails any more
	accepted map[string]bool
	arrived  map[string]int // at the last step
	dead     map[string]int // at a dead letter sink
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{
		r: rand.New(rand.NewPCG(seed, 1)), seed: seed,
		accepted: map[string]bool{}, arrived: map[string]int{}, dead: map[string]int{},
	}
	s.world = &world{t: t, store: membackend.NewStore(membackend.Options{}), steps: map[string]func(*egress.Request) egress.Result{}}
	s.length = 1 + s.r.IntN(6)
	modes := []channel.ShortCircuit{channel.Always, channel.Always, channel.Never}
	s.table = sequence(s.length, channel.Always, s.dress)
	for _, c := range s.table {
		c.ShortCircuit = modes[s.r.IntN(len(modes))]
		c.Ordered = s.r.IntN(5) == 0
	}
	for i := range s.length {
		s.step(fmt.Sprintf("http://s%d", i), s.behave(i, rand.New(rand.NewPCG(seed, uint64(100+i)))))
	}
	s.step("http://dead", s.sink(rand.New(rand.NewPCG(seed, 2))))
	return s
}

// dress gives a subscription a policy. Every one has a dead letter sink: what
// is dropped could not be told from what is lost.
func (s *simulation) dress(_ int, sub *channel.Subscription) {
	sub.DeadLetter = &channel.Destination{Target: egress.Target{URL: "http://dead"}}
	sub.Policy = egress.Policy{
		Retry:   s.r.IntN(4),
		Delay:   time.Duration(s.r.IntN(3000)) * time.Millisecond,
		Timeout: time.Duration(1+s.r.IntN(5)) * time.Second,
	}
}

// flip is true with the given chance, while things may fail.
func (s *simulation) flip(r *rand.Rand, percent int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.IntN(100) < percent && !s.healthy
}

// behave is a step: mostly it passes the event on.
func (s *simulation) behave(i int, r *rand.Rand) func(*egress.Request) egress.Result {
	last := i == s.length-1
	return func(q *egress.Request) egress.Result {
		s.mu.Lock()
		pause := time.Duration(r.IntN(400)) * time.Millisecond
		s.mu.Unlock()
		time.Sleep(pause)
		switch {
		case s.flip(r, 3):
			time.Sleep(4 * time.Second) // longer than checkpointAfter, and some timeouts
			return egress.Result{Err: context.DeadlineExceeded}
		case s.flip(r, 10):
			return status([]int{500, 503, 429, 404, 400, 302}[q.Event.ID[0]%6], "no")(q)
		case s.flip(r, 5):
			return egress.Result{Err: errors.New("connection reset")}
		}
		if res, ok := s.payloads.read(q); !ok {
			return res
		}
		if last {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.arrived[q.Event.ID]++
			return egress.Result{Status: 202}
		}
		return s.payloads.answer(passOn(i)(q), q)
	}
}

func (s *simulation) sink(r *rand.Rand) func(*egress.Request) egress.Result {
	return func(q *egress.Request) egress.Result {
		if s.flip(r, 30) {
			return status(503, "sink down")(q)
		}
		if res, ok := s.payloads.read(q); !ok {
			return res
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.payloads.lost(q) {
			s.dead[q.Event.ID]++
		}
		return egress.Result{Status: 202}
	}
}

// connect is a process that starts: a connection of its own, with faults.
func (s *simulation) connect() *membackend.Backend {
	inner := s.store.Connect()
	chance := func(op faultbackend.Op, p float64, f faultbackend.Fault) faultbackend.Chance {
		return faultbackend.Chance{Op: op, Probability: p, Fault: f}
	}
	s.backend = faultbackend.New(inner, faultbackend.Random(s.seed+uint64(s.starts)*1000,
		chance(faultbackend.Publish, 0.04, faultbackend.Fault{Do: faultbackend.Fail}),
		chance(faultbackend.Publish, 0.03, faultbackend.Fault{Do: faultbackend.LoseConfirmation}),
		chance(faultbackend.Publish, 0.03, faultbackend.Fault{Delay: 2 * time.Second}),
		chance(faultbackend.Publish, 0.02, faultbackend.Fault{Do: faultbackend.Duplicate}),
		chance(faultbackend.Receive, 0.02, faultbackend.Fault{Do: faultbackend.Duplicate}),
		chance(faultbackend.Receive, 0.02, faultbackend.Fault{Do: faultbackend.LoseConfirmation}),
		chance(faultbackend.Ack, 0.02, faultbackend.Fault{Do: faultbackend.Drop}),
		chance(faultbackend.Subscribe, 0.1, faultbackend.Fault{Do: faultbackend.Fail}),
	))
	return inner
}

func (s *simulation) run() {
	s.t.Helper()
	s.backend = s.store.Connect() // makes logs and groups, without faults
	s.start(s.payloads.configure)
	s.apply(s.table...)
	inner := s.next()
	for round := range 3 + s.r.IntN(3) {
		s.post(round, 5+s.r.IntN(20))
		time.Sleep(time.Duration(s.r.IntN(6000)) * time.Millisecond)
		if s.r.IntN(3) > 0 {
			inner.Kill() // the broker hears nothing more of it
		}
		inner = s.next()
	}
	s.mu.Lock()
	s.healthy = true
	s.mu.Unlock()
	s.payloads.heal()
	s.settle()
	s.stop()
	s.check()
}

// next ends the process, giving it little time, and starts another.
func (s *simulation) next() *membackend.Backend {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.r.IntN(3000))*time.Millisecond)
	defer cancel()
	_ = s.d.Close(ctx) // what was in flight may be given back
	_ = s.backend.Close(context.Background())
	s.starts++
	inner := s.connect()
	s.start(s.payloads.configure)
	if _, err := s.d.Apply(&channel.Table{Channels: s.table}); err != nil {
		s.t.Fatal(err)
	}
	return inner
}

// post publishes as clients do: what is not accepted is not owed.
func (s *simulation) post(round, n int) {
	for i := range n {
		e := ev(fmt.Sprintf("%c-%d-%d", 'a'+rune(s.r.IntN(6)), round, i))
		if s.r.IntN(2) == 0 {
			e = e.With(event.Attribute{Name: "partitionkey", Value: fmt.Sprint(s.r.IntN(3))})
		}
		var err error
		if e, err = s.payloads.enlarge(e, s.r); err != nil {
			continue
		}
		v := s.d.Hold()
		err = s.d.Publish(s.t.Context(), v.ByName("ns", "c0"), e)
		v.Release()
		if err == nil {
			s.accepted[e.ID] = true
		}
		time.Sleep(time.Duration(s.r.IntN(100)) * time.Millisecond)
	}
}

// settle starts a process for which nothing fails, and waits until nothing is
// left.
func (s *simulation) settle() {
	s.t.Helper()
	s.next()
	f, _ := s.backend.(*faultbackend.Backend)
	f.SetPlan(nil)
	deadline := time.Now().Add(time.Hour)
	for {
		left := int64(0)
		for i := range s.length {
			left += s.lag(fmt.Sprintf("c%d", i), fmt.Sprintf("u%d", i))
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("seed %d: %d records are left after an hour in which nothing failed", s.seed, left)
		}
		time.Sleep(time.Second)
	}
}

func (s *simulation) check() {
	s.t.Logf("seed %d: %d steps, %d processes, %d events accepted; %d arrivals, %d dead letters",
		s.seed, s.length, s.starts, len(s.accepted), sum(s.arrived), sum(s.dead))
	for id := range s.accepted {
		if s.arrived[id]+s.dead[id] == 0 {
			s.t.Errorf("seed %d: event %s was accepted and lost", s.seed, id)
		}
	}
}

func sum(m map[string]int) (n int) {
	for _, c := range m {
		n += c
	}
	return n
}
