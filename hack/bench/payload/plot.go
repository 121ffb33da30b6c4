package main

import (
	"fmt"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/stats"
)

// plot draws the medians: the time of a payload by value, and of a hop by reference.
func (r *results) plot(file string) error {
	p := plot.New()
	p.Title.Text = "Time by size of the payload (median of the rounds)"
	p.X.Label.Text, p.Y.Label.Text = "payload, MiB", "time, ms"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: 2}, plot.LogTicks{Prec: 2}
	p.Add(plotter.NewGrid())
	p.Legend.Top, p.Legend.Left = true, true
	for i, c := range r.wanted {
		var line plotter.XYs
		for _, n := range r.sizes {
			if t := stats.Summarize(r.times[key{c.name, n}]); t.N > 0 {
				line = append(line, plotter.XY{X: float64(n) / mib, Y: t.Median / 1000})
			}
		}
		if len(line) == 0 {
			continue
		}
		l, dots, err := plotter.NewLinePoints(line)
		if err != nil {
			return fmt.Errorf("plot %s: %w", c.name, err)
		}
		l.Color, dots.Color, dots.Shape = plotutil.Color(i), plotutil.Color(i), plotutil.Shape(i)
		p.Add(l, dots)
		name := c.name + ", whole payload"
		if c.name == bareRelay {
			name = "bare relay, whole payload"
		}
		if c.reference {
			name = c.name + ", a hop"
		}
		p.Legend.Add(name, l, dots)
	}
	return p.Save(22*vg.Centimeter, 14*vg.Centimeter, file)
}
