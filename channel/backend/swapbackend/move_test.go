package swapbackend_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/faultbackend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
	"github.com/sidestep-dev/sidestep/channel/backend/swapbackend"
)

// town is some processes that use one log with two groups on two brokers.
type town struct {
	testing.TB
	log       backend.Log
	groups    []string
	processes []*swapbackend.Backend

	mu   sync.Mutex
	got  map[string][]string // "group" -> ids in the order in which they came
	last map[string]int      // "group/key" -> the last number
}

func newTown(t testing.TB, ordered bool, processes int, plan func() faultbackend.Plan) *town {
	tn := &town{
		TB: t, log: backend.Log{Name: "ns/log", Ordered: ordered}, groups: []string{"g1", "g2"},
		got: map[string][]string{}, last: map[string]int{},
	}
	stores := map[string]*membackend.Store{"a": membackend.NewStore(membackend.Options{}), "b": membackend.NewStore(membackend.Options{})}
	for range processes {
		p := swapbackend.New(swapbackend.Config{Home: func(string) string { return "a" }})
		for name, s := range stores {
			if err := p.Add(name, faultbackend.New(s.Connect(), plan())); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { _ = p.Close(context.Background()) })
		tn.processes = append(tn.processes, p)
	}
	tn.try(func(ctx context.Context) error {
		_, err := tn.processes[0].EnsureLog(ctx, tn.log)
		for _, g := range tn.groups {
			err = errors.Join(err, tn.processes[0].EnsureGroup(ctx, tn.log.Name, backend.Group{Name: g}))
		}
		return err
	})
	return tn
}

// try does something again until it works.
func (tn *town) try(do func(context.Context) error) {
	tn.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		err := do(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			tn.Errorf("it does not work: %v", err)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// consume receives for a group on a process until ctx ends, and now and then leaves
// and joins again.
func (tn *town) consume(ctx context.Context, p *swapbackend.Backend, group string, r *rand.Rand) {
	for ctx.Err() == nil {
		s, err := p.Subscribe(ctx, tn.log.Name, group, backend.Options{Window: 16})
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		for n := r.IntN(400); n > 0; n-- {
			if r.IntN(2) == 0 {
				rest(ctx, s.(backend.Rester))
			}
			d, err := s.Receive(ctx)
			if err != nil {
				break
			}
			tn.take(group, d)
			if err := s.Ack(d); err != nil && ctx.Err() == nil {
				tn.Errorf("ack: %v", err)
			}
		}
		if err := s.Close(); err != nil {
			tn.Errorf("close: %v", err)
		}
	}
}

// rest returns once there is something to receive, or ctx has ended.
func rest(ctx context.Context, s backend.Rester) {
	for ctx.Err() == nil {
		woken := make(chan struct{})
		if !s.Rest(func() { close(woken) }) {
			return
		}
		select {
		case <-woken:
		case <-ctx.Done():
		}
	}
}

func (tn *town) take(group string, d *backend.Delivery) {
	tn.mu.Lock()
	defer tn.mu.Unlock()
	id := string(d.Data)
	tn.got[group] = append(tn.got[group], id)
	var n int
	if _, err := fmt.Sscanf(id, d.Key+"-%d", &n); err != nil {
		tn.Errorf("%q: %v", id, err)
	}
	if k := group + "/" + d.Key; tn.log.Ordered && !d.Redelivered {
		if n < tn.last[k] {
			tn.Errorf("group %s: %s came after %s-%d", group, id, d.Key, tn.last[k])
		}
		tn.last[k] = n
	}
}

// wanderer moves the log to and fro as the coordinator of a cluster does: it asks
// all processes. It counts the moves that came to their end.
func (tn *town) wanderer(ctx context.Context, r *rand.Rand, moves *atomic.Int64) {
	to := "b"
	for ctx.Err() == nil {
		at := tn.processes[r.IntN(len(tn.processes))] // whichever is the leader
		joined := true
		for _, p := range tn.processes {
			joined = joined && p.Joined(tn.log.Name)
		}
		if joined {
			next, err := at.Step(ctx, tn.log, tn.groups, to)
			if err == nil {
				for _, i := range r.Perm(len(tn.processes)) {
					if err := tn.processes[i].Set(tn.log.Name, next); err != nil {
						tn.Errorf("set: %v", err)
					}
				}
			}
			if !next.Moving() && next.Home == to && r.IntN(4) == 0 {
				moves.Add(1)
				to = map[string]string{"a": "b", "b": "a"}[to]
			}
		}
		time.Sleep(time.Duration(r.IntN(300)) * time.Microsecond)
	}
}

// Logs wander between two brokers while processes publish and consume; nothing is
// lost, and what a sound broker delivers once is delivered once.
func TestALogThatWandersLosesNothing(t *testing.T) {
	for seed := range uint64(24) {
		faulty := seed%3 == 2
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			plan := func() faultbackend.Plan { return nil }
			if faulty {
				plan = func() faultbackend.Plan { return faultbackend.Random(r.Uint64(), mishaps()...) }
			}
			tn := newTown(t, seed%2 == 1, 1+int(seed%4), plan)
			wander(t, tn, r, faulty)
		})
	}
}

// mishaps are what a broker may do: say nothing, or that it failed although it did
// not.
func mishaps() []faultbackend.Chance {
	var all []faultbackend.Chance
	for _, op := range []faultbackend.Op{
		faultbackend.EnsureLog, faultbackend.DeleteLog, faultbackend.EnsureGroup, faultbackend.Seal,
		faultbackend.Lag, faultbackend.Publish, faultbackend.Subscribe,
	} {
		for _, do := range []faultbackend.Action{faultbackend.Fail, faultbackend.LoseConfirmation} {
			all = append(all, faultbackend.Chance{Op: op, Probability: 0.05, Fault: faultbackend.Fault{Do: do}})
		}
	}
	return all
}

func wander(t *testing.T, tn *town, r *rand.Rand, faulty bool) {
	const keys, each = 5, 200
	ctx, stop := context.WithCancel(context.Background())
	var consumers, publishers sync.WaitGroup
	for i, p := range tn.processes {
		for _, g := range tn.groups {
			seed := rand.New(rand.NewPCG(r.Uint64(), uint64(i)))
			consumers.Go(func() { tn.consume(ctx, p, g, seed) })
		}
	}
	var moves atomic.Int64
	walk := rand.New(rand.NewPCG(r.Uint64(), 7))
	consumers.Go(func() { tn.wanderer(ctx, walk, &moves) })
	for k := range keys {
		p := tn.processes[k%len(tn.processes)]
		key := fmt.Sprintf("k%d", k)
		publishers.Go(func() {
			for n := range each {
				rec := &backend.Record{Key: key, Data: fmt.Appendf(nil, "%s-%d", key, n), Dedup: fmt.Sprintf("%s-%d", key, n)}
				tn.try(func(ctx context.Context) error { return p.Publish(ctx, tn.log.Name, rec) })
				time.Sleep(500 * time.Microsecond)
			}
		})
	}
	publishers.Wait()
	deadline := time.Now().Add(time.Minute)
	for (!tn.all(keys*each) || moves.Load() == 0) && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	consumers.Wait()
	t.Logf("moved %d times", moves.Load())
	if moves.Load() == 0 {
		t.Error("it did not move")
	}
	for _, g := range tn.groups {
		seen := map[string]int{}
		for _, id := range tn.got[g] {
			seen[id]++
		}
		if len(seen) != keys*each {
			t.Errorf("group %s got %d records of %d", g, len(seen), keys*each)
		}
		if twice := len(tn.got[g]) - len(seen); twice > 0 && !faulty {
			t.Errorf("group %s got %d records twice", g, twice)
		}
	}
}

func (tn *town) all(want int) bool {
	tn.mu.Lock()
	defer tn.mu.Unlock()
	for _, g := range tn.groups {
		seen := map[string]bool{}
		for _, id := range tn.got[g] {
			seen[id] = true
		}
		if len(seen) < want {
			return false
		}
	}
	return true
}

// Two URLs may lead to one broker.
func TestALogDoesNotMoveToWhereItIs(t *testing.T) {
	t.Parallel()
	store := membackend.NewStore(membackend.Options{})
	b := swapbackend.New(swapbackend.Config{Home: func(string) string { return "a" }})
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	for _, name := range []string{"a", "b"} {
		if err := b.Add(name, store.Connect()); err != nil {
			t.Fatal(err)
		}
	}
	l := backend.Log{Name: "ns/log"}
	if _, err := b.EnsureLog(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	p, err := b.Step(t.Context(), l, []string{"g"}, "b")
	if err != nil || !p.Equal(swapbackend.Place{Home: "b"}) {
		t.Fatalf("got %+v, %v, want it to be at home there", p, err)
	}
	if err := b.Set(l.Name, p); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), l.Name, &backend.Record{}); err != nil {
		t.Errorf("publish: %v", err)
	}
}

// Of several processes one moves the log: it deletes it where it was before the others
// are told.
func TestALogThatIsGoneWhereItWasIsWaitedFor(t *testing.T) {
	tn := newTown(t, true, 1, func() faultbackend.Plan { return nil })
	p, ctx := tn.processes[0], t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.Prepare(ctx, tn.log, tn.groups, "b"))
	must(p.Set(tn.log.Name, swapbackend.Place{Home: "b", Former: []string{"a"}, Ordered: true}))
	s, err := p.Subscribe(ctx, tn.log.Name, "g1", backend.Options{})
	must(err)
	defer s.Close()
	must(p.Publish(ctx, tn.log.Name, &backend.Record{Data: []byte("x")}))
	must(p.Forget(ctx, tn.log.Name, "a"))
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := s.Receive(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before it is told: %v", err)
	}
	must(p.Set(tn.log.Name, swapbackend.Place{Home: "b", Ordered: true}))
	if d, err := s.Receive(ctx); err != nil || string(d.Data) != "x" {
		t.Errorf("received %v, %v", d, err)
	}
	// One that is removed altogether is not waited for.
	must(p.DeleteLog(ctx, tn.log.Name))
	if _, err := s.Receive(ctx); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("once it is removed: %v", err)
	}
}

func TestABackendThatALogWasOnCanBeRemovedOnceTheLogIsLeft(t *testing.T) {
	tn := newTown(t, false, 1, func() faultbackend.Plan { return nil })
	p := tn.processes[0]
	if err := p.Set(tn.log.Name, swapbackend.Place{Home: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(t.Context(), "a"); err == nil {
		t.Error("it was removed with a log on it")
	}
	p.Leave(tn.log.Name)
	if err := p.Remove(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

// A subscription ends with its log. One that came back for the next log of that name
// would be a member of its group, and keep records that nobody receives.
func TestASubscriptionDoesNotOutliveItsLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		next := faultbackend.New(membackend.New(membackend.Options{}), faultbackend.Script(
			faultbackend.Rule{Op: faultbackend.Subscribe, First: 1, Fault: faultbackend.Fault{Do: faultbackend.Fail, Err: backend.ErrUnavailable}},
		))
		b := swapbackend.New(swapbackend.Config{Home: func(string) string { return "a" }})
		defer b.Close(t.Context())
		must(b.Add("a", membackend.New(membackend.Options{})))
		must(b.Add("b", next))
		begin := func() {
			t.Helper()
			l := backend.Log{Name: "ns/log"}
			_, err := b.EnsureLog(t.Context(), l)
			must(err)
			must(b.EnsureGroup(t.Context(), l.Name, backend.Group{Name: "g"}))
			must(b.Prepare(t.Context(), l, []string{"g"}, "b"))
		}
		begin()
		sub, err := b.Subscribe(t.Context(), "ns/log", "g", backend.Options{})
		must(err)
		must(b.Set("ns/log", swapbackend.Place{Home: "a", Next: "b"}))
		synctest.Wait() // it could not join b, and is to try again

		must(b.DeleteLog(t.Context(), "ns/log"))
		begin()
		must(b.Set("ns/log", swapbackend.Place{Home: "a", Next: "b"}))
		time.Sleep(time.Minute)
		if n := next.Calls(faultbackend.Subscribe); n != 1 {
			t.Errorf("it tried to join %d times, want 1", n)
		}
		_, err = sub.Receive(t.Context())
		if !errors.Is(err, backend.ErrNotFound) {
			t.Errorf("Receive: %v, want ErrNotFound", err)
		}
		must(sub.Close())
	})
}
