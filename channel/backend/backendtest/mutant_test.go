package backendtest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/faultbackend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
)

// recorder stands in for the test that a property runs in, and remembers
// whether it failed.
type recorder struct {
	testing.TB // for what is not below
	ctx        context.Context
	cancel     context.CancelFunc

	mu       sync.Mutex
	failures []string
	skipped  bool
	cleanups []func()
}

func (r *recorder) Helper()                  {}
func (r *recorder) Log(...any)               {}
func (r *recorder) Logf(string, ...any)      {}
func (r *recorder) Context() context.Context { return r.ctx }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Error(args ...any) { r.Errorf("%s", fmt.Sprint(args...)) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

func (r *recorder) FailNow() { r.Fatal("FailNow") }

func (r *recorder) Skip(...any) {
	r.skipped = true
	runtime.Goexit()
}

func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

// try runs a property against a harness, and returns how it failed.
func try(t *testing.T, p property, h Harness) (failures []string, skipped bool) {
	r := &recorder{TB: t}
	r.ctx, r.cancel = context.WithCancel(t.Context())
	inGoroutine(func() { p.run(newFixture(r, h)) })
	r.cancel()
	for len(r.cleanups) > 0 {
		last := len(r.cleanups) - 1
		f := r.cleanups[last]
		r.cleanups = r.cleanups[:last]
		inGoroutine(f)
	}
	return r.failures, r.skipped
}

// inGoroutine lets f end by runtime.Goexit.
func inGoroutine(f func()) {
	var wg sync.WaitGroup
	wg.Go(f)
	wg.Wait()
}

// mutantHarness is of a broker whose every connection is spoilt.
func mutantHarness(spoil func(backend.Backend) backend.Backend) Harness {
	store := membackend.NewStore(membackend.Options{MaxRecordBytes: 64 << 10})
	var mu sync.Mutex
	inner := make(map[backend.Backend]*membackend.Backend)
	find := func(b backend.Backend) *membackend.Backend {
		mu.Lock()
		defer mu.Unlock()
		return inner[b]
	}
	return Harness{
		Connect: func(testing.TB) backend.Backend {
			m := store.Connect()
			b := spoil(m)
			mu.Lock()
			defer mu.Unlock()
			inner[b] = m
			return b
		},
		Kill: func(_ testing.TB, b backend.Backend) { find(b).Kill() },
		Cut:  func(_ testing.TB, b backend.Backend) { find(b).Cut() },
		Mend: func(_ testing.TB, b backend.Backend) { find(b).Mend() },
		Restart: func(testing.TB) {
			mu.Lock()
			defer mu.Unlock()
			for _, m := range inner {
				m.Cut()
			}
			for _, m := range inner {
				m.Mend()
			}
		},
		Facts: Facts{Dedup: true, Patience: 500 * time.Millisecond},
	}
}

// Each mutant breaks one promise. At least the properties named must notice:
// what proves something fails without it.
func TestNoMutantPasses(t *testing.T) {
	t.Parallel()
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, want := range m.caughtBy {
				i := slices.IndexFunc(allProperties(), func(p property) bool { return p.name == want })
				if i < 0 {
					t.Fatalf("there is no property %q", want)
				}
				t.Logf("%q: %.200s", want, strings.Join(notice(t, allProperties()[i], m.spoil), "; "))
			}
		})
	}
}

// mutantTries: with several members what is broken is not met in every run. One that
// waits while the others take all records loses none of them, for one.
const mutantTries = 5

// notice returns how a property failed on a mutant.
func notice(t *testing.T, p property, spoil func(backend.Backend) backend.Backend) []string {
	t.Helper()
	for range mutantTries {
		failures, skipped := try(t, p, mutantHarness(spoil))
		if skipped {
			t.Errorf("%q was skipped", p.name)
			return nil
		}
		if len(failures) > 0 {
			return failures
		}
	}
	t.Errorf("%q did not notice in %d runs", p.name, mutantTries)
	return nil
}

func allProperties() []property { return slices.Concat(together(), restartProperties) }

// A harness that can do nothing but connect has the properties that need more
// skipped, and fails none.
func TestMissingCapabilityDoesNotFail(t *testing.T) {
	t.Parallel()
	for _, p := range allProperties() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			h := mutantHarness(func(b backend.Backend) backend.Backend { return b })
			h = Harness{Connect: h.Connect}
			failures, skipped := try(t, p, h)
			if len(failures) > 0 {
				t.Errorf("failed: %s", strings.Join(failures, "; "))
			}
			needs := strings.Contains(p.name, "kill") || strings.Contains(p.name, "cut") || strings.Contains(p.name, "restart")
			if needs && !skipped && !strings.Contains(p.name, "history") {
				t.Error("was not skipped")
			}
		})
	}
}

func faults(rules ...faultbackend.Rule) func(backend.Backend) backend.Backend {
	return func(b backend.Backend) backend.Backend { return faultbackend.New(b, faultbackend.Script(rules...)) }
}

// every is a rule for all calls of an operation from the nth on.
func every(op faultbackend.Op, n int, f faultbackend.Fault) faultbackend.Rule {
	return faultbackend.Rule{Op: op, First: n, Last: -1, Fault: f}
}
