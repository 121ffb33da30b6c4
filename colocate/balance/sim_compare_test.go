package balance

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// meanAndP99 of times, in milliseconds.
func meanAndP99(ds []time.Duration) (mean, p99 float64) {
	ds = slices.Sorted(slices.Values(ds))
	for _, d := range ds {
		mean += float64(d) / float64(len(ds)) / 1e6
	}
	return mean, float64(ds[len(ds)*99/100]) / 1e6
}

// A simulated experiment: two pods with both steps, the second of which costs ten
// times the first, and a load on them that the dispatcher does not route. Time is
// simulated, so what comes out is the same on every machine. Pinned: all chains
// enter by one pod, which gets twice its share.
func TestChainsAreNeverWorseOffThanWithTheBetterOfStayingAndLeaving(t *testing.T) {
	if raceEnabled {
		t.Skip("each history has one goroutine: the race detector finds nothing, slowly; make simulate runs it")
	}
	const (
		seeds     = 6
		tolerance = 1.12 // of means of a few thousand chains, and of their p99
		ofIdeal   = 1.5
	)
	for _, base := range []experiment{
		{places: 1},
		{places: 4},
		{places: 16},
		{places: 1, pinned: true},
		{places: 4, pinned: true},
		{places: 4, dist: "det"},
		{places: 4, predict: true},
		{places: 4, predict: true, pinned: true},
		// The talk's payloads, behind links of 1 Gbit/s.
		{places: 4, payload: 1 << 20, rate: 125e6, cost: 100 * time.Millisecond},
		{places: 4, payload: 4 << 20, rate: 125e6, cost: 300 * time.Millisecond},
		{places: 4, payload: 16 << 20, rate: 125e6, cost: time.Second},
		{places: 4, payload: 16 << 20, rate: 125e6, cost: time.Second, pinned: true},
	} {
		for _, load := range []float64{.3, .6, .8, .9} {
			e := base
			e.load, e.background, e.cost, e.oneWay, e.chains = load, .4, or(e.cost, 10*time.Millisecond), 250*time.Microsecond, 4000
			name := fmt.Sprintf("%d places, pinned %t, %s, predict %t, %d MiB, load %.0f%%",
				e.places, e.pinned, e.dist, e.predict, e.payload>>20, 100*load)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var mean, p99 [compared]float64
				var idealMean, idealP99 float64
				for seed := range uint64(seeds) {
					w := e.workload(seed)
					for policy := range compared {
						times, _ := e.run(w, policy, seed)
						m, p := meanAndP99(times)
						mean[policy] += m / seeds
						p99[policy] += p / seeds
					}
					m, p := meanAndP99(e.ideal(w))
					idealMean += m / seeds
					idealP99 += p / seeds
				}
				t.Logf("mean, p99 in ms: local %.1f %.1f, the other pod %.1f %.1f, anew %.1f %.1f, ours %.1f %.1f, ideal %.1f %.1f",
					mean[alwaysLocal], p99[alwaysLocal], mean[alwaysRemote], p99[alwaysRemote], mean[anew], p99[anew],
					mean[balanced], p99[balanced], idealMean, idealP99)
				if best := min(mean[alwaysLocal], mean[alwaysRemote], mean[anew]); mean[balanced] > tolerance*best {
					t.Errorf("mean of %.1f ms, the best of the others has %.1f", mean[balanced], best)
				}
				if best := min(p99[alwaysLocal], p99[alwaysRemote], p99[anew]); p99[balanced] > tolerance*best {
					t.Errorf("p99 of %.1f ms, the best of the others has %.1f", p99[balanced], best)
				}
				if load == .8 && e.payload == 0 && p99[balanced] > ofIdeal*idealP99 {
					t.Errorf("p99 of %.1f ms, one queue for all would have %.1f", p99[balanced], idealP99)
				}
			})
		}
	}
}
