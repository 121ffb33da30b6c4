package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/stats"
)

// flows are all rounds of the Sequences and the relay, by the number of steps.
type flows struct {
	ours, relay map[int][]sequenceResult // sequenceWindow events at once
	single      []sequenceResult         // ours, one at a time through all steps
}

// measureFlows has the Sequences and the relay take turns.
func measureFlows(ctx context.Context, o options, stderr io.Writer) (f flows, err error) {
	s, err := startSequence(ctx, o.broker)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	f = flows{ours: map[int][]sequenceResult{}, relay: map[int][]sequenceResult{}}
	for round := range o.rounds + 1 { // the first one warms up
		for _, turn := range rand.Perm(2 * len(lengths)) {
			steps, who, to := lengths[turn/2], "Sidestep", f.ours
			measure := func() (sequenceResult, error) {
				return s.measure(ctx, fmt.Sprintf("%d-%d", round, turn), steps, o.events, sequenceWindow)
			}
			if turn%2 == 1 {
				who, to = "relay", f.relay
				measure = func() (sequenceResult, error) { return relay(ctx, o.broker, steps, o.events, sequenceWindow) }
			}
			r, err := measure()
			if err != nil {
				return f, fmt.Errorf("%s, %d steps: %w", who, steps, err)
			}
			fmt.Fprintf(stderr, "round %d: %-8s %d steps, %d at once: %6.0f deliveries/s to each, p50 %.1f ms\n", round, who, steps, sequenceWindow, r.deliveries, r.p50)
			if round > 0 {
				to[steps] = append(to[steps], r)
			}
		}
		r, err := s.measure(ctx, fmt.Sprintf("%d-single", round), sequenceSteps, max(o.events/20, 1), 1)
		if err != nil {
			return f, err
		}
		if round > 0 {
			f.single = append(f.single, r)
		}
	}
	return f, nil
}

// table is the part of the document that is about the flows.
func (f *flows) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nSequences, `Never`, with %d KiB of data in each event, in a dispatcher process on the same broker; each step's channel has one partition. Beside them a franz-go\n"+
		"relay without any steps or HTTP, in the generator's process: a consumer group for each topic, whose records are produced to the next one, and committed then. %d events at once:\n\n", sequenceData>>10, sequenceWindow)
	b.WriteString("| | Sidestep | franz-go relay | ratio | goal | reached |\n|---|---|---|---|---|---|\n")
	deliveries := func(r sequenceResult) float64 { return r.deliveries }
	p50 := func(r sequenceResult) float64 { return r.p50 }
	for _, steps := range lengths {
		ours, relay := f.ours[steps], f.relay[steps]
		what := fmt.Sprintf("%d steps", steps)
		if steps == 1 {
			what = "one step"
		}
		mine := summary(ours, deliveries)
		goal, reached := "", ""
		if steps == 1 {
			goal, reached = fmt.Sprintf(">= %d", goalDeliveries), map[bool]string{true: "yes", false: "no"}[mine.Median >= goalDeliveries]
		}
		fmt.Fprintf(&b, "| %s: deliveries/s of each partition | %s | %s | %s | %s | %s |\n", what, mine.Format(0),
			summary(relay, deliveries).Format(0), ratios(ours, relay, deliveries).Format(2), goal, reached)
		fmt.Fprintf(&b, "| the same, from the first publish to the last step, p50, ms | %s | %s | %s |  |  |\n",
			summary(ours, p50).Format(1), summary(relay, p50).Format(1), ratios(ours, relay, p50).Format(2))
	}
	fmt.Fprintf(&b, "| %d steps, one event at a time, p50, ms | %s |  |  |  |  |\n", sequenceSteps, summary(f.single, p50).Format(1))
	return b.String()
}

func values(all []sequenceResult, of func(sequenceResult) float64) (values []float64) {
	for _, r := range all {
		values = append(values, of(r))
	}
	return values
}

func summary(all []sequenceResult, of func(sequenceResult) float64) stats.Summary {
	return stats.Summarize(values(all, of))
}

// ratios are taken within rounds.
func ratios(ours, other []sequenceResult, of func(sequenceResult) float64) stats.Summary {
	return stats.Summarize(stats.Ratios(values(ours, of), values(other, of)))
}
