package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/machine"
)

// results are what all rounds showed.
type results struct {
	rounds  int
	wanted  []contender
	values  map[key][]float64 // by round; NaN where it could not be measured
	foreign []float64         // by round: processor time that others used, as a part of all there is

	failures []error
}

type key struct {
	contender string
	measure   measure
}

func newResults(wanted []contender, rounds int) results {
	return results{rounds: rounds, wanted: wanted, values: make(map[key][]float64)}
}

// has tells whether a contender was to be measured.
func (r *results) has(name string) bool {
	return slices.ContainsFunc(r.wanted, func(c contender) bool { return c.name == name })
}

// add notes what a contender showed in a round.
func (r *results) add(round int, name string, s sample) {
	for m, v := range s {
		k := key{name, m}
		for len(r.values[k]) < r.rounds {
			r.values[k] = append(r.values[k], math.NaN())
		}
		r.values[k][round] = v
	}
}

// rounds measures every contender once in each round, in an order that the
// seed decides. A contender that fails lacks that round; the others go on.
func (b *bench) rounds(ctx context.Context, wanted []contender, rounds int, seed uint64) (results, error) {
	r := newResults(wanted, rounds)
	began := time.Now()
	for round := range rounds {
		order := slices.Clone(wanted)
		rand.New(rand.NewPCG(seed, uint64(round))).Shuffle(len(order), func(i, j int) {
			order[i], order[j] = order[j], order[i]
		})
		load := machine.WatchForeign()
		for i, c := range order {
			s, err := b.sample(ctx, c)
			if ctx.Err() != nil {
				return r, fmt.Errorf("measure %s: %w", c.name, context.Cause(ctx))
			}
			if err != nil {
				err = fmt.Errorf("%s in round %d: %w", c.name, round+1, err)
				r.failures = append(r.failures, err)
				b.say("%v", err)
				continue
			}
			r.add(round, c.name, s)
			done := round*len(order) + i + 1
			left := time.Since(began) / time.Duration(done) * time.Duration(rounds*len(order)-done)
			b.say("round %d/%d  %-18s %-48s %s left", round+1, rounds, c.name, s, left.Round(time.Second))
		}
		r.foreign = append(r.foreign, load.Part())
	}
	return r, nil
}

// String is the sample in a line of the progress.
func (s sample) String() string {
	rate := fmt.Sprintf("%.0f/s", s[perSecond])
	if v, ok := s[hopP50]; ok {
		return fmt.Sprintf("hop %.0f µs, %s", v, rate)
	}
	return fmt.Sprintf("%s, answer %.0f µs", rate, s[answerP50])
}
