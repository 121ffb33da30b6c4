package main

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// scenario is what is compared at several loads.
type scenario struct {
	name    string
	payload int           // bytes of each of our events
	rate    int           // bits per second of a pod's link, 0 for none
	cost    time.Duration // of step b, on average; a costs a tenth of it
	chains  int           // of ours in one run, at full load
}

const (
	places = 4   // of each step in each pod
	share  = 0.4 // of the load that is background
	pods   = 2
)

// trace is a random history: the same for all ways.
type trace struct {
	at    []time.Duration
	costs map[string][2]time.Duration // by event
}

func newTrace(r *rand.Rand, name string, perSecond float64, n int, until, cost time.Duration) *trace {
	t := &trace{costs: map[string][2]time.Duration{}}
	var at float64
	for i := 0; n == 0 || i < n; i++ {
		at += r.ExpFloat64() / perSecond
		d := time.Duration(at * float64(time.Second))
		if until > 0 && d > until {
			break
		}
		t.at = append(t.at, d)
		t.costs[id(name, i)] = [2]time.Duration{
			time.Duration(r.ExpFloat64() * float64(cost) / 10), time.Duration(r.ExpFloat64() * float64(cost)),
		}
	}
	return t
}

func id(name string, i int) string { return fmt.Sprint(name, "-", i) }

// histories of a run: ours, and the background's.
func (s *scenario) histories(load float64, run uint64) (mine, others *trace) {
	perSecond := load * pods * places / s.cost.Seconds()
	r := rand.New(rand.NewPCG(run, uint64(load*100)))
	n := max(20, int(load*float64(s.chains)))
	mine = newTrace(r, "mine", perSecond*(1-share), n, 0, s.cost)
	return mine, newTrace(r, "others", perSecond*share, 0, mine.at[len(mine.at)-1], s.cost)
}

// warm is how many of n chains are not counted.
func warm(n int) int { return n / 10 }

// oneQueue is one queue for each step and all servers, without any network. It
// returns how long our chains take, sorted, in milliseconds.
func oneQueue(mine, others *trace) []float64 {
	type item struct {
		at, begun time.Duration
		costs     [2]time.Duration
		counts    bool
	}
	var all []item
	for i, at := range mine.at {
		all = append(all, item{at, at, mine.costs[id("mine", i)], i >= warm(len(mine.at))})
	}
	for i, at := range others.at {
		all = append(all, item{at, at, others.costs[id("others", i)], false})
	}
	for step := range 2 {
		slices.SortStableFunc(all, func(a, b item) int { return int(a.at - b.at) })
		free := make(times, pods*places)
		for i := range all {
			all[i].at = max(all[i].at, free[0]) + all[i].costs[step]
			free[0] = all[i].at
			heap.Fix(&free, 0)
		}
	}
	var out []float64
	for _, it := range all {
		if it.counts {
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
