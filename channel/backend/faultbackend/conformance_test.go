package faultbackend_test

import (
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/backendtest"
	"github.com/sidestep-dev/sidestep/channel/backend/faultbackend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
)

// A wrapper with nothing to do must not be noticed, and neither must one that
// only takes its time or says what the contract calls harmless twice.
func TestConformance(t *testing.T) {
	slow := faultbackend.Fault{Delay: 300 * time.Microsecond}
	twice := faultbackend.Fault{Do: faultbackend.Duplicate}
	for name, plan := range map[string]faultbackend.Plan{
		"empty plan": nil,
		"delays": faultbackend.Random(1,
			faultbackend.Chance{Op: faultbackend.Publish, Probability: 0.3, Fault: slow},
			faultbackend.Chance{Op: faultbackend.Receive, Probability: 0.3, Fault: slow},
			faultbackend.Chance{Op: faultbackend.Ack, Probability: 0.3, Fault: slow},
		),
		"harmless duplicates": faultbackend.Random(1,
			faultbackend.Chance{Op: faultbackend.EnsureLog, Probability: 0.5, Fault: twice},
			faultbackend.Chance{Op: faultbackend.EnsureGroup, Probability: 0.5, Fault: twice},
			faultbackend.Chance{Op: faultbackend.Ack, Probability: 0.5, Fault: twice},
			faultbackend.Chance{Op: faultbackend.CloseSubscription, Probability: 0.5, Fault: twice},
			faultbackend.Chance{Op: faultbackend.Close, Probability: 0.5, Fault: twice},
		),
	} {
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, func(testing.TB) backendtest.Harness { return newHarness(plan) })
		})
	}
}

func newHarness(plan faultbackend.Plan) backendtest.Harness {
	store := membackend.NewStore(membackend.Options{})
	inner := func(b backend.Backend) *membackend.Backend {
		return b.(*faultbackend.Backend).Unwrap().(*membackend.Backend)
	}
	var mu sync.Mutex
	var open []*membackend.Backend
	return backendtest.Harness{
		Connect: func(testing.TB) backend.Backend {
			mu.Lock()
			defer mu.Unlock()
			m := store.Connect()
			open = append(open, m)
			return faultbackend.New(m, plan)
		},
		Kill: func(_ testing.TB, b backend.Backend) { inner(b).Kill() },
		Cut:  func(_ testing.TB, b backend.Backend) { inner(b).Cut() },
		Mend: func(_ testing.TB, b backend.Backend) { inner(b).Mend() },
		Restart: func(testing.TB) {
			mu.Lock()
			defer mu.Unlock()
			for _, m := range open {
				m.Cut()
			}
			for _, m := range open {
				m.Mend()
			}
		},
		Facts: backendtest.Facts{Dedup: true},
	}
}
