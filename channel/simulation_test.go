package channel_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
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

// seeds of a normal run. SIDESTEP_SEED=N runs that one alone, and
// SIDESTEP_SEEDS=N the first N.
const (
	seeds     = 10_000
	seedsRace = 600 // the race detector makes one take twenty times as long
)

// TestNoEventIsLostInAnySimulatedHistory runs seeded histories in simulated
// time: sequences of random shape, steps that fail, hang and answer late, pods
// that are busy, full or die before or after any step, a backend that fails,
// delays, loses confirmations and repeats, or is away, and processes that are
// killed and started again.
//
//   - Whatever happens, each event that was accepted ends at its last step or
//     at a dead letter sink (P2, P3), each step gets it as the step before it
//     answered it (P8), and nothing is left over.
//   - Where only processes die or lose their backend, no event is delivered more
//     often than once and once again for each record that was in flight
//     then (P3), and the events of a key start in the order of their log (P10).
//   - Where not even that happens, each step runs once, and has exactly the
//     attempts that its policy says (P8).
func TestNoEventIsLostInAnySimulatedHistory(t *testing.T) {
	n := uint64(seeds)
	if raceEnabled || testing.Short() {
		n = seedsRace
	}
	simulate(t, n, func(t *testing.T, seed uint64) { newSimulation(t, seed).run() })
}

// simulate runs n histories, or what the environment says.
func simulate(t *testing.T, n uint64, history func(t *testing.T, seed uint64)) {
	t.Helper()
	number := func(name string, otherwise uint64) uint64 {
		v := os.Getenv(name)
		if v == "" {
			return otherwise
		}
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if os.Getenv("SIDESTEP_SEED") != "" {
		seed := number("SIDESTEP_SEED", 0)
		synctest.Test(t, func(t *testing.T) { history(t, seed) })
		return
	}
	n = number("SIDESTEP_SEEDS", n)
	workers := uint64(runtime.GOMAXPROCS(0))
	for worker := range workers {
		t.Run(fmt.Sprint("every ", workers, " from ", worker), func(t *testing.T) {
			t.Parallel()
			for seed := worker; seed < n && !t.Failed(); seed += workers {
				synctest.Test(t, func(t *testing.T) { history(t, seed) })
			}
		})
	}
}

// weather is what may go wrong beside the steps.
type weather uint8

const (
	storm   weather = iota // everything
	crashes                // processes die, and the backend is away
	calm                   // nothing
)

// simulation is one history.
type simulation struct {
	*world
	r       *rand.Rand
	seed    uint64
	weather weather
	length  int
	table   []*channel.Channel
	starts  int
	// payloads has half of the events be large; may be nil.
	payloads *simulatedPayloads

	mu       sync.Mutex
	healthy  bool // nothing fails any more
	accepted []*event.Event
	arrived  map[string]int // at the last step
	dead     map[string]int // at a dead letter sink
	at       []stepLog      // by step
	again    int            // records that crashes may have brought back
}

// stepLog is what a step saw.
type stepLog struct {
	first    map[string]int // in which order events came for the first time
	answered map[string]int
	failed   map[string][]egress.Result
	buried   map[string]bool // dead-lettered from here
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{
		r: rand.New(rand.NewPCG(seed, 1)), seed: seed, weather: weather(seed % 3),
		arrived: map[string]int{}, dead: map[string]int{},
	}
	s.world = &world{t: t, store: membackend.NewStore(membackend.Options{}), steps: map[string]func(*egress.Request) egress.Result{}}
	s.length = 1 + s.r.IntN(6)
	modes := []channel.ShortCircuit{channel.Colocated, channel.Colocated, channel.Always, channel.Never}
	s.table = sequence(s.length, channel.Colocated, s.dress)
	for _, c := range s.table {
		c.ShortCircuit = modes[s.r.IntN(len(modes))]
		c.Ordered = s.r.IntN(5) == 0
	}
	s.table[0].Ordered = s.r.IntN(2) == 0
	for i := range s.length {
		s.at = append(s.at, stepLog{
			first: map[string]int{}, answered: map[string]int{}, failed: map[string][]egress.Result{}, buried: map[string]bool{},
		})
		s.step(fmt.Sprintf("http://s%d", i), s.behave(i, rand.New(rand.NewPCG(seed, uint64(100+i)))))
	}
	s.step("http://dead", s.sink(rand.New(rand.NewPCG(seed, 2))))
	s.colocate()
	return s
}

// colocate puts the steps into pods: neighbours mostly share one, and some pods
// are there twice.
func (s *simulation) colocate() {
	p := &pods{w: s.world, hold: map[string][]string{}}
	for i, pod := 0, 0; i < s.length; i++ {
		if s.r.IntN(4) == 0 {
			pod++
		}
		name := fmt.Sprint("p", pod)
		p.hold[name] = append(p.hold[name], fmt.Sprint("u", i))
	}
	for name, uids := range p.hold {
		if s.seed%2 == 0 {
			p.hold[name+"'"] = uids
		}
	}
	r := rand.New(rand.NewPCG(s.seed, 3))
	p.trouble = func(_ string, _ int, answered bool) trouble {
		switch {
		case s.weather != calm && s.flip(r, 4):
			s.mu.Lock()
			s.again++
			s.mu.Unlock()
			s.pause(r, 3000) // until that is noticed
			return dies
		case answered:
			return none
		case s.flip(r, 10):
			s.pause(r, 300) // it waited for a place
			return busy
		case s.flip(r, 2):
			return tooLarge
		}
		return none
	}
	s.pods = p
}

func (s *simulation) pause(r *rand.Rand, most int) {
	s.mu.Lock()
	d := time.Duration(r.IntN(most)) * time.Millisecond
	s.mu.Unlock()
	time.Sleep(d)
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
		s.enters(i, q.Event)
		s.pause(r, 400)
		res := egress.Result{}
		switch {
		case s.flip(r, 3):
			time.Sleep(4 * time.Second) // longer than checkpointAfter, and some timeouts
			res = egress.Result{Err: context.DeadlineExceeded}
		case s.flip(r, 10):
			res = status([]int{500, 503, 429, 404, 400, 302}[q.Event.ID[0]%6], "no")(q)
		case s.flip(r, 5):
			res = egress.Result{Err: errors.New("connection reset")}
		default:
			unread, ok := s.payloads.read(q)
			switch {
			case !ok:
				res = unread
			case last:
				res = egress.Result{Status: 202}
			default:
				res = s.payloads.answer(passOn(i)(q), q)
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		id := q.Event.ID
		switch {
		case res.Err != nil:
			s.at[i].failed[id] = append(s.at[i].failed[id], res)
		case last:
			s.arrived[id]++
			fallthrough
		default:
			s.at[i].answered[id]++
		}
		return res
	}
}

// enters checks an event that comes to step i.
func (s *simulation) enters(i int, e *event.Event) {
	want := "t"
	for k := range i {
		want += fmt.Sprint(">", k)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Type != want || e.Payload == nil && string(e.Data) != "data of "+e.ID {
		s.t.Errorf("seed %d: step %d got event %s of type %s with %q", s.seed, i, e.ID, e.Type, e.Data)
	}
	if _, known := s.at[i].first[e.ID]; !known {
		s.at[i].first[e.ID] = len(s.at[i].first)
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
		e := q.Event
		i, err := strconv.Atoi(strings.TrimPrefix(e.Get("knativeerrordest"), "http://s"))
		if err != nil || e.Get("knativeerrorcode") == "" {
			s.t.Errorf("seed %d: dead letter %s has attributes %v", s.seed, e.ID, e.Attributes)
			return egress.Result{Status: 202}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.payloads.lost(q) {
			return egress.Result{Status: 202}
		}
		s.dead[e.ID]++
		s.at[i].buried[e.ID] = true
		if strings.Count(e.Type, ">") != i || e.Payload == nil && string(e.Data) != "data of "+e.ID {
			s.t.Errorf("seed %d: dead letter %s of step %d has type %s and %q", s.seed, e.ID, i, e.Type, e.Data)
		}
		return egress.Result{Status: 202}
	}
}

// connect is a process that starts: a connection of its own, with faults.
func (s *simulation) connect() *membackend.Backend {
	inner := s.store.Connect()
	if s.weather != storm {
		s.backend = inner
		return inner
	}
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
		if s.weather == calm {
			continue
		}
		if s.r.IntN(3) == 0 {
			s.crash()
			inner.Cut()
			time.Sleep(time.Duration(s.r.IntN(6000)) * time.Millisecond)
			inner.Mend()
			s.post(round+100, s.r.IntN(5))
		}
		if s.r.IntN(3) > 0 {
			s.crash()
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

// crash counts what is in flight: it may come back.
func (s *simulation) crash() {
	synctest.Wait()
	inFlight, _ := s.d.Totals()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.again += inFlight
}

// next ends the process, giving it little time, and starts another.
func (s *simulation) next() *membackend.Backend {
	s.t.Helper()
	s.crash()
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
		e, err := s.payloads.enlarge(e, s.r)
		if err != nil {
			continue
		}
		v := s.d.Hold()
		err = s.d.Publish(s.t.Context(), v.ByName("ns", "c0"), e)
		v.Release()
		if err == nil {
			s.accepted = append(s.accepted, e)
		}
		time.Sleep(time.Duration(s.r.IntN(100)) * time.Millisecond)
	}
}

// settle starts a process for which nothing fails, and waits until nothing is
// left.
func (s *simulation) settle() {
	s.t.Helper()
	if s.weather != calm {
		s.next()
	}
	if f, faulty := s.backend.(*faultbackend.Backend); faulty {
		f.SetPlan(nil)
	}
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
	more := sum(s.arrived) + sum(s.dead) - len(s.accepted)
	for _, e := range s.accepted {
		if s.arrived[e.ID]+s.dead[e.ID] == 0 {
			s.t.Errorf("seed %d: event %s was accepted and lost", s.seed, e.ID)
		}
	}
	if s.weather != storm {
		if more > s.again {
			s.t.Errorf("seed %d: %d deliveries too many, but %d records at most were in flight in a crash", s.seed, more, s.again)
		}
		s.checkOrder()
	}
	if s.weather == calm {
		for i := range s.at {
			s.checkAttempts(i)
		}
	}
	if s.t.Failed() {
		s.t.Logf("seed %d: %d steps, %d processes, %d events accepted; %d arrivals, %d dead letters",
			s.seed, s.length, s.starts, len(s.accepted), sum(s.arrived), sum(s.dead))
	}
}

// checkOrder wants the first deliveries of a key in the order of the log, where
// the first channel is PerKey.
func (s *simulation) checkOrder() {
	if !s.table[0].Ordered {
		return
	}
	last := map[string]*event.Event{}
	for _, e := range s.accepted {
		key := e.Get("partitionkey")
		before := last[key]
		last[key] = e
		if before != nil && key != "" && s.at[0].first[before.ID] > s.at[0].first[e.ID] {
			s.t.Errorf("seed %d: event %s of key %s began before %s", s.seed, e.ID, key, before.ID)
		}
	}
}

// checkAttempts wants each event to have had exactly the attempts at step i that
// the policy says.
func (s *simulation) checkAttempts(i int) {
	log, retry := s.at[i], s.table[i].Subscriptions[0].Policy.Retry
	for id := range log.first {
		failed := log.failed[id]
		final := slices.IndexFunc(failed, func(r egress.Result) bool { return !egress.Retryable(r) })
		switch {
		case log.buried[id] && log.answered[id] == 0 && (len(failed) == retry+1 || final == len(failed)-1) && len(failed) > 0:
		case !log.buried[id] && log.answered[id] == 1 && len(failed) <= retry && final < 0:
		default:
			s.t.Errorf("seed %d: event %s at step %d with %d retries: %d answers, %d failures (the first final one at %d), dead-lettered %t",
				s.seed, id, i, retry, log.answered[id], len(failed), final, log.buried[id])
		}
	}
}

func sum(m map[string]int) (n int) {
	for _, c := range m {
		n += c
	}
	return n
}
