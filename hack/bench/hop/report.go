package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/machine"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/stats"
)

// column is a measure as it is shown.
type column struct {
	head     string
	measure  measure
	decimals int
}

func flowColumns() []column {
	return []column{
		{"hop p50, µs", hopP50, 0},
		{"hop p99, µs", hopP99, 0},
		{"sequences/s", perSecond, 0},
		{"CPU/sequence, µs", cpu, 0},
		{"with the steps' CPU, µs", cpuAll, 0},
		{"peak RSS, MiB", peakRSS, 0},
		{"allocations/sequence", allocs, 0},
	}
}

func ingressColumns() []column {
	return []column{
		{"events/s", perSecond, 0},
		{"answer p50, µs", answerP50, 0},
		{"answer p99, µs", answerP99, 0},
		{"CPU/event, µs", cpu, 1},
		{"peak RSS, MiB", peakRSS, 0},
		{"allocations/event", allocs, 1},
	}
}

// table is rows under a head, and what they are about.
type table struct {
	title string
	head  []string
	rows  [][]string
}

// tables are the report; those with nothing in them are left out.
func (r *results) tables() []table {
	all := []table{
		r.measured("Five steps: one client for hops, 32 in flight for throughput; median (min–max) of the rounds", false, flowColumns()),
		r.measured("Ingress: 1 KiB events from 64 clients; median (min–max) of the rounds", true, ingressColumns()),
		r.compared(),
	}
	var out []table
	for _, t := range all {
		if len(t.rows) > 0 {
			out = append(out, t)
		}
	}
	return out
}

func (r *results) measured(title string, ingress bool, columns []column) table {
	t := table{title: title, head: []string{"contender"}}
	for _, c := range columns {
		t.head = append(t.head, c.head)
	}
	for _, c := range r.wanted {
		if c.ingress != ingress {
			continue
		}
		row := []string{c.title}
		for _, col := range columns {
			row = append(row, stats.Summarize(r.values[key{c.name, col.measure}]).Format(col.decimals))
		}
		t.rows = append(t.rows, row)
	}
	return t
}

func (r *results) compared() table {
	t := table{
		title: "Ratios, each within its round; median (min–max) of the rounds",
		head:  []string{"ratio", "measured", "target", "reached"},
	}
	for _, v := range r.verdicts() {
		t.rows = append(t.rows, []string{v.text, v.ratio.Format(2), v.target(), v.reached()})
	}
	return t
}

// maxForeign is the percentage of the machine that others may use before the
// report warns.
const maxForeign = 10

// notes are what a reader must know besides the numbers.
func (r *results) notes(m machine.Machine) []string {
	others := stats.Summarize(percent(r.foreign))
	notes := []string{
		fmt.Sprintf("Measured on %s. Rounds: %d, each with every contender once, in a shuffled order.", m, r.rounds),
		fmt.Sprintf("Processor time that other programs used meanwhile, of all there was: %s %%.",
			others.Format(0)),
	}
	if others.Max > maxForeign {
		notes = append(notes, "The machine was not idle: take the ratios rather than the numbers, and measure again.")
	}
	if n := len(r.failures); n > 0 {
		notes = append(notes, fmt.Sprintf("Measurements that failed and are not in the tables: %d.", n))
	}
	return notes
}

func percent(parts []float64) []float64 {
	out := make([]float64, len(parts))
	for i, p := range parts {
		out[i] = 100 * p
	}
	return out
}

// text prints the report for a terminal.
func (r *results) text(w io.Writer, m machine.Machine) error {
	for _, t := range r.tables() {
		fmt.Fprintf(w, "\n%s\n\n", t.title)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, row := range append([][]string{t.head}, t.rows...) {
			fmt.Fprintln(tw, strings.Join(row, "\t"))
		}
		if err := tw.Flush(); err != nil {
			return fmt.Errorf("print the report: %w", err)
		}
	}
	_, err := fmt.Fprintf(w, "\n%s\n", strings.Join(r.notes(m), "\n"))
	if err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}
