package swapbackend_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/backendtest"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
	"github.com/sidestep-dev/sidestep/channel/backend/swapbackend"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Wherever a log is in the course of a move, it is a log.
func TestConformance(t *testing.T) {
	for name, place := range map[string]swapbackend.Place{
		"at home":                {Home: "a"},
		"with a place to go to":  {Home: "a", Next: "b"},
		"sealed where it was":    {Home: "a", Next: "b"},
		"read from where it was": {Home: "b", Former: []string{"a"}},
		"read in turn":           {Home: "a", Next: "b", Ordered: true},
	} {
		t.Run(name, func(t *testing.T) {
			sealed := name == "sealed where it was"
			backendtest.Run(t, func(testing.TB) backendtest.Harness { return newHarness(place, sealed) })
		})
	}
}

// There are as many subscriptions of one place as there are subscriptions: what a
// move needs is made when there is one.
func TestASubscriptionOfOnePlaceIsLittleMoreThanItsMembers(t *testing.T) {
	store := membackend.NewStore(membackend.Options{})
	member := store.Connect()
	all := swapbackend.New(swapbackend.Config{Home: func(string) string { return "a" }})
	if err := all.Add("a", store.Connect()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = all.Close(context.Background()) })
	if _, err := all.EnsureLog(t.Context(), backend.Log{Name: "ns/log"}); err != nil {
		t.Fatal(err)
	}
	if err := all.EnsureGroup(t.Context(), "ns/log", backend.Group{Name: "g"}); err != nil {
		t.Fatal(err)
	}
	allocations := func(b backend.Backend) float64 {
		return testing.AllocsPerRun(100, func() {
			s, err := b.Subscribe(t.Context(), "ns/log", "g", backend.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if !s.(backend.Rester).Rest(func() {}) {
				t.Fatal("a subscription with nothing to receive does not rest")
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
	const most = 24
	alone, with := allocations(member), allocations(all)
	t.Logf("%.0f allocations of a member, %.0f with the rest", alone, with)
	if with > alone+most {
		t.Errorf("%.0f allocations more than the member's %.0f, want at most %d", with-alone, alone, most)
	}
}

func BenchmarkBackend(b *testing.B) {
	backendtest.Benchmark(b, func(testing.TB) backendtest.Harness { return newHarness(swapbackend.Place{Home: "a"}, false) })
}

// process is one with connections to both brokers.
type process struct {
	*swapbackend.Backend
	members []*membackend.Backend
	place   swapbackend.Place
	sealed  bool
	all     *processes
}

// processes are told of the same places.
type processes struct {
	mu     sync.Mutex
	open   []*process
	places map[string]swapbackend.Place
}

func (a *processes) place(log string, p swapbackend.Place) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.places[log] = p
	for _, o := range a.open {
		if err := o.Set(log, p); err != nil {
			return err
		}
	}
	return nil
}

func (a *processes) add(p *process) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open = append(a.open, p)
	for log, place := range a.places {
		if err := p.Set(log, place); err != nil {
			return err
		}
	}
	return nil
}

// EnsureLog places a log as well, for all processes.
func (p *process) EnsureLog(ctx context.Context, l backend.Log) (backend.Incarnation, error) {
	place := p.place
	place.Ordered = place.Ordered && l.Ordered
	if err := p.all.place(l.Name, place); err != nil {
		return "", err
	}
	i, err := p.Backend.EnsureLog(ctx, l)
	if err == nil && p.sealed {
		err = p.SealAt(ctx, l.Name, place.Home)
		i, _ = p.members[1].EnsureLog(ctx, l) // whose it is to those who receive
	}
	return i, err
}

func newHarness(place swapbackend.Place, sealed bool) backendtest.Harness {
	stores := []*membackend.Store{membackend.NewStore(membackend.Options{}), membackend.NewStore(membackend.Options{})}
	all := &processes{places: map[string]swapbackend.Place{}}
	each := func(b backend.Backend, do func(*membackend.Backend)) {
		for _, m := range b.(*process).members {
			do(m)
		}
	}
	return backendtest.Harness{
		Connect: func(t testing.TB) backend.Backend {
			p := &process{
				Backend: swapbackend.New(swapbackend.Config{Home: func(string) string { return place.Home }}), place: place, sealed: sealed, all: all,
			}
			for i, name := range []string{"a", "b"} {
				p.members = append(p.members, stores[i].Connect())
				if err := p.Add(name, p.members[i]); err != nil {
					t.Fatal(err)
				}
			}
			if err := all.add(p); err != nil {
				t.Fatal(err)
			}
			return p
		},
		Kill: func(_ testing.TB, b backend.Backend) { each(b, (*membackend.Backend).Kill) },
		Cut:  func(_ testing.TB, b backend.Backend) { each(b, (*membackend.Backend).Cut) },
		Mend: func(_ testing.TB, b backend.Backend) { each(b, (*membackend.Backend).Mend) },
		Restart: func(testing.TB) {
			all.mu.Lock()
			defer all.mu.Unlock()
			for _, do := range []func(*membackend.Backend){(*membackend.Backend).Cut, (*membackend.Backend).Mend} {
				for _, p := range all.open {
					each(p, do)
				}
			}
		},
		Facts: backendtest.Facts{Dedup: true},
	}
}

// A member that is full stops the logs that are there, and no others.
func TestRoomIsThatOfTheLogsHome(t *testing.T) {
	t.Parallel()
	homes := map[string]string{"full/log": "full", "free/log": "free"}
	b := swapbackend.New(swapbackend.Config{Home: func(log string) string { return homes[log] }})
	defer b.Close(context.Background())
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.Add("full", membackend.New(membackend.Options{MaxBytes: 1})))
	must(b.Add("free", membackend.New(membackend.Options{})))
	for log := range homes {
		_, err := b.EnsureLog(t.Context(), backend.Log{Name: log})
		must(err)
		must(b.EnsureGroup(t.Context(), log, backend.Group{Name: "g"}))
		must(b.Room(log))
		must(b.Publish(t.Context(), log, &backend.Record{Data: []byte("1")}))
	}
	if err := b.Room("full/log"); !errors.Is(err, backend.ErrFull) {
		t.Errorf("Room of the log that is on the full one: %v", err)
	}
	must(b.Room("free/log"))

	// On the way away from it the log is refused until it is sealed there.
	must(b.Set("full/log", swapbackend.Place{Home: "full", Next: "free"}))
	if err := b.Room("full/log"); !errors.Is(err, backend.ErrFull) {
		t.Errorf("Room of a log that is to leave the full one: %v", err)
	}
	must(b.Set("full/log", swapbackend.Place{Home: "free", Former: []string{"full"}}))
	must(b.Room("full/log"))

	// Where there is nothing yet, Publish says what is wrong.
	homes["elsewhere/log"] = "missing"
	must(b.Room("elsewhere/log"))
}

func TestLogsAreMovingUntilTheyAreAtHomeAlone(t *testing.T) {
	store, home := membackend.NewStore(membackend.Options{}), "a"
	b := swapbackend.New(swapbackend.Config{Home: func(string) string { return home }})
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	for _, name := range []string{"a", "b"} {
		if err := b.Add(name, store.Connect()); err != nil {
			t.Fatal(err)
		}
	}
	want := func(n int, p swapbackend.Place) {
		t.Helper()
		if err := b.Set("ns/log", p); err != nil {
			t.Fatal(err)
		}
		if got := b.Moving(); got != n {
			t.Errorf("%d move, want %d: it is at %+v and its home is %s", got, n, p, home)
		}
	}
	want(0, swapbackend.Place{Home: "a"})
	home = "b"
	want(1, swapbackend.Place{Home: "a"})
	want(1, swapbackend.Place{Home: "a", Next: "b"})
	want(1, swapbackend.Place{Home: "b", Former: []string{"a"}})
	want(0, swapbackend.Place{Home: "b"})
	b.Leave("ns/log")
	if got := b.Moving(); got != 0 {
		t.Errorf("%d move, of none", got)
	}
}
