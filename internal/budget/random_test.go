package budget

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// Random requests, releases and cancellations: what was acquired never exceeds
// the total, and in the end everybody was served or had given up.
func TestRandomUseNeverExceedsTheTotalNorLosesAWakeup(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			const total, workers, rounds = 1 << 20, 16, 200
			b := New(total)
			var held atomic.Int64 // never more than used
			var wg sync.WaitGroup
			for i := range uint64(workers) {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(seed, i))
					namespace := fmt.Sprint("ns", i%4)
					for range rounds {
						n := r.Int64N(total/4) + 1
						if !acquire(r, b, namespace, n) {
							continue
						}
						if h := held.Add(n); h > total {
							t.Errorf("%d bytes are held of %d", h, total)
						}
						held.Add(-n)
						b.Release(namespace, n)
					}
				})
			}
			wg.Wait()
			wantUsed(t, b, 0)
			if len(b.turns) != 0 || len(b.queues) != 0 {
				t.Errorf("%d turns and %d queues are left", len(b.turns), len(b.queues))
			}
		})
	}
}

// acquire takes n bytes in one of the ways there are.
func acquire(r *rand.Rand, b *Budget, namespace string, n int64) bool {
	switch r.IntN(4) {
	case 0:
		return b.TryAcquire(namespace, n)
	case 1:
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(cancel) // at any moment, also as it is granted
		return b.Acquire(ctx, namespace, n) == nil
	default:
		return b.Acquire(context.Background(), namespace, n) == nil
	}
}
