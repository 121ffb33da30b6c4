package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/machine"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/section"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/stats"
)

// patience is for a chain, and for all to end.
const patience = 5 * time.Minute

const (
	mib  = 1 << 20
	mbit = 1e6
)

func scenarios() []scenario {
	return []scenario{
		{name: "small events", cost: 20 * time.Millisecond, chains: 900},
		{name: "1 MiB, links of 1 Gbit/s", payload: mib, rate: 1000 * mbit, cost: 100 * time.Millisecond, chains: 300},
		{name: "16 MiB, links of 1 Gbit/s", payload: 16 * mib, rate: 1000 * mbit, cost: time.Second, chains: 120},
	}
}

var loads = []float64{.3, .6, .8, .9}

// options are the command line.
type options struct {
	rounds int
	seed   uint64
	only   string
	write  string
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 10, "how often each way is measured")
	flag.Uint64Var(&o.seed, "seed", 1, "what shuffles the ways of a round")
	flag.StringVar(&o.only, "only", "", "the one scenario to measure")
	flag.StringVar(&o.write, "write", "", "also write the reports to this Markdown file, each between its markers, and their plots beside it")
	flag.Parse()
	if flag.NArg() > 0 || o.rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := o.run(); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// key of results.
type key struct {
	load float64
	way  way
}

// results of a scenario: milliseconds by round.
type results struct {
	scenario
	p50, p99 map[key][]float64
}

func (o options) run() error {
	for _, s := range scenarios() {
		if o.only != "" && o.only != s.name {
			continue
		}
		watch := machine.WatchForeign()
		r, err := o.measure(s)
		if errors.Is(err, errLink) {
			fmt.Fprintln(os.Stderr, "load: left out:", s.name+":", err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := o.tell(r, r.report(machine.Describe(os.TempDir()), o.rounds, watch.Part())); err != nil {
			return err
		}
	}
	return nil
}

// tell prints a scenario's report, and writes it into its own section.
func (o options) tell(r *results, text string) error {
	if _, err := io.WriteString(os.Stdout, text); err != nil || o.write == "" {
		return err
	}
	if err := r.plot(filepath.Join(filepath.Dir(o.write), r.plotName())); err != nil {
		return err
	}
	return section.Write(o.write, r.section(), text)
}

// measure runs each way once in each round, at all loads.
func (o options) measure(s scenario) (*results, error) {
	r := &results{s, map[key][]float64{}, map[key][]float64{}}
	began := time.Now()
	for round := range uint64(o.rounds) {
		for _, load := range loads {
			mine, others := s.histories(load, o.seed+round)
			note := func(w way, took []float64) {
				k := key{load, w}
				r.p50[k], r.p99[k] = append(r.p50[k], stats.Quantile(took, .5)), append(r.p99[k], stats.Quantile(took, .99))
			}
			order := []way{stay, anew, ours}
			rand.New(rand.NewPCG(o.seed, round)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			for _, w := range order {
				took, err := s.run(w, mine, others)
				if err != nil {
					return nil, fmt.Errorf("%v at %.0f%%: %w", w, 100*load, err)
				}
				note(w, took)
			}
			note(queue, oneQueue(mine, others))
		}
		fmt.Fprintf(os.Stderr, "%s: round %d/%d after %v\n", s.name, round+1, o.rounds, time.Since(began).Round(time.Second))
	}
	return r, nil
}

// run is one run: how long our chains took, sorted, in milliseconds.
func (s *scenario) run(w way, mine, others *trace) ([]float64, error) {
	costs := maps.Clone(mine.costs)
	maps.Copy(costs, others.costs)
	world, err := newWorld(s, func(id string) [2]time.Duration { return costs[id] })
	if err != nil {
		return nil, err
	}
	defer world.close()
	us, err := world.dispatcher(w, world.m.Pods...)
	if err != nil {
		return nil, err
	}
	background, err := world.dispatcher(stay, world.m.Pods[0])
	if err != nil {
		return nil, err
	}
	start := time.Now()
	failed := make(chan error, 2)
	go func() {
		failed <- errors.Join(us.post(mine, "mine", start, make([]byte, s.payload)), us.finished())
	}()
	go func() { failed <- errors.Join(background.post(others, "others", start, nil), background.finished()) }()
	if err := errors.Join(<-failed, <-failed); err != nil {
		return nil, err
	}
	world.mu.Lock()
	defer world.mu.Unlock()
	var took []float64
	for i, at := range mine.at[warm(len(mine.at)):] {
		end, ok := world.done[id("mine", i+warm(len(mine.at)))]
		if !ok {
			return nil, fmt.Errorf("chain %d did not end", i)
		}
		took = append(took, float64(end.Sub(start.Add(at)))/1e6)
	}
	slices.Sort(took)
	return took, nil
}
