package colocate

import (
	"container/heap"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/colocate/sidecar"
)

// The load experiment, with real sidecars: two pods with both steps of a chain,
// the second of which takes ten times as long as the first (time, and no CPU), and
// a load on one pod that the dispatcher does not route. SIDESTEP_LOAD=1 runs it: it
// measures times, which is no test.
//
//	ours -------> [dispatcher] --> pod p: a, b  <-- background, another dispatcher
//	                          \--> pod q: a, b
const (
	loadPlaces = 4 // of each step in each pod
	loadCost   = 20 * time.Millisecond
	loadChains = 800
	loadShare  = 0.4 // of the load that is background
	loadRuns   = 2
)

// way is how our chains go from the first step to the second.
type way uint8

const (
	stay  way = iota // in the pod in which they are
	leave            // to the other pod, always
	ours
)

func (w way) String() string { return [...]string{"local only", "remote only", "ours"}[w] }

// forced has the chains of a Pods go one way.
type forced struct {
	*Pods
	way way
}

func (f forced) Run(ctx context.Context, r *channel.PodRun) channel.PodResult {
	switch {
	case f.way == leave && r.Spilled == "":
		return f.firstStep(ctx, r)
	case f.way == stay:
		stays := *r
		stays.Budget = time.Hour
		return f.Pods.Run(ctx, &stays)
	}
	return f.Pods.Run(ctx, r)
}

// firstStep runs the first step alone, and gives its answer back.
func (f forced) firstStep(ctx context.Context, r *channel.PodRun) channel.PodResult {
	one := *r
	one.Most = 1
	one.Spilled = "none"
	res := f.Pods.Run(ctx, &one)
	if res.Outcome == channel.PodCompleted && res.Event != nil {
		res.Outcome, res.Reason = channel.PodSpilled, channel.Overloaded
	}
	return res
}

// trace is a random history: the same for all ways.
type trace struct {
	at    []time.Duration
	costs map[string][2]time.Duration // by event
}

func newTrace(r *rand.Rand, name string, perSecond float64, n int, until time.Duration) *trace {
	t := &trace{costs: map[string][2]time.Duration{}}
	var at float64
	for i := 0; i < n || n == 0; i++ {
		at += r.ExpFloat64() / perSecond
		d := time.Duration(at * float64(time.Second))
		if until > 0 && d > until {
			break
		}
		t.at = append(t.at, d)
		t.costs[fmt.Sprint(name, i)] = [2]time.Duration{
			time.Duration(r.ExpFloat64() * float64(loadCost) / 10), time.Duration(r.ExpFloat64() * float64(loadCost)),
		}
	}
	return t
}

func TestLoadExperiment(t *testing.T) {
	if os.Getenv("SIDESTEP_LOAD") == "" {
		t.Skip("measures for minutes: SIDESTEP_LOAD=1 runs it")
	}
	for _, load := range []float64{.3, .6, .8, .9} {
		var p50, p99 [4][]float64
		for run := range loadRuns {
			perSecond := load * 2 * loadPlaces / loadCost.Seconds()
			r := rand.New(rand.NewPCG(uint64(run), uint64(load*100)))
			mine := newTrace(r, "mine-", perSecond*(1-loadShare), loadChains, 0)
			others := newTrace(r, "others-", perSecond*loadShare, 0, mine.at[len(mine.at)-1])
			for _, w := range []way{stay, leave, ours} {
				times := runLoad(t, w, mine, others)
				p50[w], p99[w] = append(p50[w], times[len(times)/2]), append(p99[w], times[len(times)*99/100])
			}
			times := ideal(mine, others)
			p50[3], p99[3] = append(p50[3], times[len(times)/2]), append(p99[3], times[len(times)*99/100])
		}
		for w, name := range []string{"local only", "remote only", "ours", "one queue for all"} {
			t.Logf("load %.0f%%: %-18s p50 %s, p99 %s ms", 100*load, name, spreadOf(p50[w]), spreadOf(p99[w]))
		}
	}
}

// spreadOf is median (min-max).
func spreadOf(vs []float64) string {
	slices.Sort(vs)
	return fmt.Sprintf("%6.1f (%.1f-%.1f)", vs[len(vs)/2], vs[0], vs[len(vs)-1])
}

// runLoad is one run: how long our chains took, sorted, in ms; the first tenth is
// for warming up.
func runLoad(t *testing.T, w way, mine, others *trace) []float64 {
	us := newTown(t, "a", "b")
	second := []*step{newStep(t, "a"), newStep(t, "b")}
	var mu sync.Mutex
	done := map[string]time.Time{}
	for i, s := range append(slices.Clone(us.steps), second...) {
		s.answer = func(_ int, r *http.Request) int {
			id := r.Header.Get("ce-id")
			c, ok := mine.costs[id]
			if !ok {
				c = others.costs[id]
			}
			time.Sleep(c[i%2])
			if i%2 == 1 {
				mu.Lock()
				done[id] = time.Now()
				mu.Unlock()
				return http.StatusAccepted
			}
			return 0
		}
	}
	few := func(c *sidecar.Config) { c.MaxInFlight = loadPlaces; c.MaxWait = time.Minute }
	us.pod("p", few, us.steps...)
	us.pod("q", few, second...)
	us.pods.patient = w == stay
	us.force(forced{us.pods, w})
	us.apply("p", "q")
	background := newTown(t, "a", "b")
	background.m = Map{Services: us.m.Services, Pods: us.m.Pods[:1]}
	for i, c := range background.seq {
		c.Subscriptions[0].Subscriber = us.seq[i].Subscriptions[0].Subscriber
	}
	background.apply("p")

	start := time.Now()
	var wg sync.WaitGroup
	post := func(to *town, tr *trace, name string) {
		wg.Go(func() {
			for i, at := range tr.at {
				time.Sleep(time.Until(start.Add(at)))
				to.publish(ev(fmt.Sprint(name, i)))
			}
		})
	}
	post(us, mine, "mine-")
	post(background, others, "others-")
	wg.Wait()
	us.settled()
	background.settled()
	mu.Lock()
	defer mu.Unlock()
	var times []float64
	for i, at := range mine.at[loadChains/10:] {
		end, ok := done[fmt.Sprint("mine-", i+loadChains/10)]
		if !ok {
			t.Fatalf("chain %d did not end", i)
		}
		times = append(times, float64(end.Sub(start.Add(at)))/1e6)
	}
	slices.Sort(times)
	return times
}

// ideal is one queue for each step and all servers, without any network.
func ideal(mine, others *trace) []float64 {
	type item struct {
		at, begun time.Duration
		costs     [2]time.Duration
		mine      bool
	}
	var all []item
	for i, at := range mine.at {
		all = append(all, item{at, at, mine.costs[fmt.Sprint("mine-", i)], i >= loadChains/10})
	}
	for i, at := range others.at {
		all = append(all, item{at, at, others.costs[fmt.Sprint("others-", i)], false})
	}
	for step := range 2 {
		slices.SortStableFunc(all, func(a, b item) int { return int(a.at - b.at) })
		free := make(times, 2*loadPlaces)
		for i := range all {
			begin := max(all[i].at, free[0])
			all[i].at = begin + all[i].costs[step]
			free[0] = all[i].at
			heap.Fix(&free, 0)
		}
	}
	var out []float64
	for _, it := range all {
		if it.mine {
			out = append(out, float64(it.at-it.begun)/1e6)
		}
	}
	slices.Sort(out)
	return out
}

// times are when servers are free, the soonest first.
type times []time.Duration

func (t times) Len() int           { return len(t) }
func (t times) Less(i, j int) bool { return t[i] < t[j] }
func (t times) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *times) Push(any)          {}
func (t *times) Pop() any          { return nil }
