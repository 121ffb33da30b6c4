package main

import (
	"fmt"
	"strings"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/stats"
)

// What the backend is to reach, against franz-go.
const (
	goalThroughput = 0.8
	goalLatency    = 1.5
)

func table(o options, where, machine string, ours, other []result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rounds on %s (%s); records of %d bytes; median (smallest–largest):\n\n", len(ours), where, machine, o.size)
	b.WriteString("| | Sidestep's backend | franz-go | ratio | goal | reached |\n|---|---|---|---|---|---|\n")
	row := func(what string, decimals int, of func(result) float64, goal float64, least bool) {
		var mine, theirs, ratios []float64
		for i := range ours {
			a, c := of(ours[i]), of(other[i])
			mine, theirs, ratios = append(mine, a), append(theirs, c), append(ratios, a/c)
		}
		ratio := stats.Summarize(ratios)
		sign, reached := "<=", ratio.Median <= goal
		if least {
			sign, reached = ">=", ratio.Median >= goal
		}
		verdict, want := "", ""
		if goal > 0 {
			verdict, want = map[bool]string{true: "yes", false: "no"}[reached], fmt.Sprintf("%s %.1f", sign, goal)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", what, stats.Summarize(mine).Format(decimals),
			stats.Summarize(theirs).Format(decimals), ratio.Format(2), want, verdict)
	}
	row(fmt.Sprintf("publish, %d goroutines, records/s", o.goroutines), 0, func(r result) float64 { return r.publish }, goalThroughput, true)
	row("deliver and settle, records/s", 0, func(r result) float64 { return r.deliver }, goalThroughput, true)
	row("end to end at 200 records/s, p50, ms", 2, func(r result) float64 { return r.p50 }, goalLatency, false)
	row("the same, p99, ms", 2, func(r result) float64 { return r.p99 }, 0, false)
	return b.String()
}
