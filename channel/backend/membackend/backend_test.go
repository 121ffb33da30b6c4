package membackend_test

import (
	"sync"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/backendtest"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
)

func TestConformance(t *testing.T) { backendtest.Run(t, newHarness) }

func newHarness(testing.TB) backendtest.Harness {
	store := membackend.NewStore(membackend.Options{})
	var mu sync.Mutex
	var open []*membackend.Backend
	return backendtest.Harness{
		Connect: func(testing.TB) backend.Backend {
			mu.Lock()
			defer mu.Unlock()
			b := store.Connect()
			open = append(open, b)
			return b
		},
		Kill: func(_ testing.TB, b backend.Backend) { b.(*membackend.Backend).Kill() },
		Cut:  func(_ testing.TB, b backend.Backend) { b.(*membackend.Backend).Cut() },
		Mend: func(_ testing.TB, b backend.Backend) { b.(*membackend.Backend).Mend() },
		// A Store outlives nothing, but to its connections a broker that
		// restarts is one that is gone for a moment.
		Restart: func(testing.TB) {
			mu.Lock()
			defer mu.Unlock()
			for _, b := range open {
				b.Cut()
			}
			for _, b := range open {
				b.Mend()
			}
		},
		Facts: backendtest.Facts{Dedup: true},
	}
}

func BenchmarkBackend(b *testing.B) { backendtest.Benchmark(b, newHarness) }
