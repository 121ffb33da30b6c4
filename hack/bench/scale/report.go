package main

import (
	"fmt"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// What 5,000 channels are to cost at most, at the first start and at a restart.
const (
	goalReady  = 10 * time.Second
	goalMemory = 400 << 20
	goalCPU    = 0.05
)

// result of the whole measurement: of a start on a fresh folder, and of one on
// what that left.
type result struct {
	channels int
	machine  string
	starts   [2]start
}

// row of the table. A goal is reached if both starts reach it.
type row struct {
	what          string
	first, second string
	goal, reached string
}

func (r *result) rows() []row {
	a, b := &r.starts[0], &r.starts[1]
	return []row{
		{"start until ready", seconds(a.ready), seconds(b.ready), "<= " + seconds(goalReady), yes(max(a.ready, b.ready) <= goalReady)},
		{"memory at rest (RSS)", mebibytes(a.idle), mebibytes(b.idle), "<= " + mebibytes(goalMemory), yes(max(a.idle, b.idle) <= goalMemory)},
		{"processor, idle", percent(a.cpu), percent(b.cpu), "< " + percent(goalCPU) + " of a core", yes(max(a.cpu, b.cpu) < goalCPU)},
		{"memory after an event to every channel", mebibytes(a.used), mebibytes(b.used), "", ""},
		{"memory, peak", mebibytes(a.peak), mebibytes(b.peak), "", ""},
		{"goroutines", fmt.Sprint(a.goroutines), fmt.Sprint(b.goroutines), "", ""},
		{"time to accept an event for every channel", seconds(a.events), seconds(b.events), "", ""},
		{"stop on SIGTERM", seconds(a.stop), seconds(b.stop), "", ""},
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
func mebibytes(n int64) string       { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }
func percent(share float64) string   { return fmt.Sprintf("%.1f%%", 100*share) }

func yes(reached bool) string {
	if reached {
		return "yes"
	}
	return "no"
}

func (r *result) title() string {
	return fmt.Sprintf("%d channels with a subscription each, one standalone process (%s)", r.channels, r.machine)
}

// machine says what it was measured on.
func machine() string {
	return fmt.Sprintf("%s/%s, %d CPUs, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}

func (r *result) text() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s\n\n", r.title())
	w := tabwriter.NewWriter(&s, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tfirst start\trestart\tgoal\treached")
	for _, x := range r.rows() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", x.what, x.first, x.second, x.goal, x.reached)
	}
	w.Flush()
	return s.String()
}

func (r *result) markdown() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s:\n\n| | first start | restart | goal | reached |\n|---|---|---|---|---|\n", r.title())
	for _, x := range r.rows() {
		fmt.Fprintf(&s, "| %s | %s | %s | %s | %s |\n", x.what, x.first, x.second, x.goal, x.reached)
	}
	return s.String()
}

// sectionName is that of the report in a document.
const sectionName = "scale"
