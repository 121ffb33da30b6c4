package main

import (
	"fmt"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/machine"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/stats"
)

const method = "`make bench-load` writes this section. Do not edit it.\n"

// The goals: beside the better of the two others, and beside one queue.
const (
	betterGoal = 1.05 // what runs with so few chains can tell apart
	confidence = 0.95
	queueGoal  = 1.5
)

// report is the scenario's section of the document.
func (r *results) report(on machine.Machine, rounds int, foreign float64) string {
	var out strings.Builder
	out.WriteString(method + "\n")
	fmt.Fprintf(&out, "**%s; the second step takes %v; ms, median (min–max) of the rounds**\n\n![completion time by load](%s)\n\n",
		r.name, r.cost, r.plotName())
	out.WriteString("| load | | local only | remote only | Sidestep | one queue for all | Sidestep / the better | 95 % confidence | reached |\n")
	out.WriteString("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, load := range loads {
		r.row(&out, load, "p50", r.p50)
		r.row(&out, load, "p99", r.p99)
	}
	if r.rate == 0 {
		ratio := stats.Summarize(stats.Ratios(r.p99[key{.8, ours}], r.p99[key{.8, queue}]))
		fmt.Fprintf(&out, "\nAt 80 %% the p99 is %s times that of one queue for all (goal: ≤ %.1f).\n", ratio.Format(2), queueGoal)
	}
	fmt.Fprintf(&out, "\n- Measured on %s. Rounds: %d.\n- Part of all processor time that other programs used meanwhile: %.2f.\n", on, rounds, foreign)
	return out.String()
}

func (r *results) row(out *strings.Builder, load float64, what string, values map[key][]float64) {
	cell := func(w way) string { return stats.Summarize(values[key{load, w}]).Format(1) }
	mine, local, remote := values[key{load, ours}], values[key{load, stay}], values[key{load, anew}]
	// The better one is that with the lesser median: to take it anew in each round
	// would compare with the luckier of two.
	better := local
	if stats.Summarize(remote).Median < stats.Summarize(local).Median {
		better = remote
	}
	ratios := stats.Ratios(mine, better)
	ratio := stats.Summarize(ratios)
	low, high := stats.Confidence(ratios, confidence)
	reached := map[bool]string{true: "yes", false: "no"}[ratio.Median <= betterGoal || low <= 1]
	fmt.Fprintf(out, "| %.0f %% | %s | %s | %s | %s | %s | %s | %.2f–%.2f | %s |\n", 100*load, what,
		cell(stay), cell(anew), cell(ours), cell(queue), ratio.Format(2), low, high, reached)
}

// size is that of the payload, in names.
func (r *results) size() string {
	if r.payload == 0 {
		return ""
	}
	return fmt.Sprintf("-%dMiB", r.payload/mib)
}

func (r *results) section() string  { return "bench-load" + r.size() }
func (r *results) plotName() string { return "perf-load" + r.size() + ".png" }

// plot draws the medians of the p50, and of the p99 above them.
func (r *results) plot(file string) error {
	p := plot.New()
	p.Title.Text = "Completion time by load: " + r.name
	p.X.Label.Text, p.Y.Label.Text = "load, % of all places", "ms (dashed: p99)"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: 2}
	p.Add(plotter.NewGrid())
	p.Legend.Top, p.Legend.Left = true, true
	for w := range ways {
		for i, values := range []map[key][]float64{r.p50, r.p99} {
			var line plotter.XYs
			for _, load := range loads {
				line = append(line, plotter.XY{X: 100 * load, Y: stats.Summarize(values[key{load, w}]).Median})
			}
			l, dots, err := plotter.NewLinePoints(line)
			if err != nil {
				return fmt.Errorf("plot %v: %w", w, err)
			}
			l.Color, dots.Color, dots.Shape = plotutil.Color(int(w)), plotutil.Color(int(w)), plotutil.Shape(int(w))
			if i == 1 {
				l.Dashes = plotutil.Dashes(1)
			}
			p.Add(l, dots)
			if i == 0 {
				p.Legend.Add(w.String(), l, dots)
			}
		}
	}
	return p.Save(22*vg.Centimeter, 14*vg.Centimeter, file)
}
