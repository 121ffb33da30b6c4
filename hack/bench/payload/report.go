package main

import (
	"fmt"
	"strings"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/machine"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/stats"
)

const method = "`make bench-payload` writes this section. Do not edit it.\n\n" +
	`A payload of each size is posted and carried to a step that reads it: through a bare relay that copies it to a file and from there on
(net/http, nothing checked, nothing hashed, nothing durable in the log), and through Sidestep (the released binary, standalone, default settings) with its
payloads in files or on an S3 server (versitygw, over files, on the same machine). One payload at a time, from the beginning of the POST until the step has read
all of it. By reference, 32 steps pass on the reference that they get, and a *hop* is the time from just before a step writes its
answer until the next step's handler is entered; a payload takes turns with one of 1 KiB, which travels in the log, and the hops of both begin after 100 ms of rest. Memory is the peak of a fresh process that carries four at once. All parts share the cores.
`

// goals of the project.
const (
	throughputGoal = 0.7
	hopGoal        = 1.2
	memoryGoal     = 64 // MiB
)

// markdown is the report as a section of a document; plot is the file that is shown in it.
func (r *results) markdown(on machine.Machine, plot string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s\n![time by size of the payload](%s)\n\n", method, plot)
	r.throughput(&out)
	r.hops(&out)
	r.verdicts(&out)
	others := stats.Summarize(r.foreign)
	fmt.Fprintf(&out, "- Measured on %s. Rounds: %d, each with every contender once, in a shuffled order.\n", on, r.rounds)
	fmt.Fprintf(&out, "- Part of all processor time that other programs used meanwhile: %s.\n", others.Format(2))
	return out.String()
}

func row(out *strings.Builder, cells ...string) {
	fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | "))
}

func (r *results) has(names ...string) bool {
	for _, n := range names {
		if len(r.times[key{n, r.sizes[0]}]) == 0 {
			return false
		}
	}
	return true
}

func size(n int64) string {
	if n < mib {
		return fmt.Sprintf("%d KiB", n/kib)
	}
	return fmt.Sprintf("%d MiB", n/mib)
}

// rate is MiB per second.
func (r *results) rate(name string, size int64) stats.Summary {
	var rates []float64
	for _, t := range r.times[key{name, size}] {
		rates = append(rates, float64(size)/mib/(t/1e6))
	}
	return stats.Summarize(rates)
}

// ratio of a's times to b's, round by round.
func (r *results) ratio(a, b key) stats.Summary {
	return stats.Summarize(stats.Ratios(r.times[a], r.times[b]))
}

func (r *results) throughput(out *strings.Builder) {
	if !r.has(bareRelay, valueFile) {
		return
	}
	s3 := r.has(valueS3)
	fmt.Fprintf(out, "**By value: MiB/s, and the part of the relay's throughput that is reached; median (min–max) of the rounds**\n\n")
	row(out, "payload", "relay", "Sidestep, files", "files / relay", "Sidestep, S3", "S3 / relay")
	row(out, "---", "---:", "---:", "---:", "---:", "---:")
	for _, n := range r.sizes {
		cells := []string{
			size(n), r.rate(bareRelay, n).Format(1), r.rate(valueFile, n).Format(1),
			r.ratio(key{bareRelay, n}, key{valueFile, n}).Format(2), "–", "–",
		}
		if s3 {
			cells[4], cells[5] = r.rate(valueS3, n).Format(1), r.ratio(key{bareRelay, n}, key{valueS3, n}).Format(2)
		}
		row(out, cells...)
	}
	out.WriteByte('\n')
}

func (r *results) hops(out *strings.Builder) {
	if !r.has(refFile) {
		return
	}
	least := size(r.sizes[0])
	fmt.Fprintf(out, "**By reference: a hop in µs, one of %s beside it, and their ratio; median (min–max) of the rounds**\n\n", least)
	row(out, "payload", "files", least, "ratio", "S3", least, "ratio")
	row(out, "---", "---:", "---:", "---:", "---:", "---:", "---:")
	for _, n := range r.sizes[1:] {
		cells := []string{size(n)}
		for _, name := range []string{refFile, refS3} {
			k := key{name, n}
			if !r.has(name) {
				cells = append(cells, "–", "–", "–")
				continue
			}
			cells = append(cells, stats.Summarize(r.times[k]).Format(0), stats.Summarize(r.beside[k]).Format(0), r.besides(k).Format(2))
		}
		row(out, cells...)
	}
	out.WriteByte('\n')
}

func verdictRow(out *strings.Builder) func(text string, s stats.Summary, decimals int, reached bool) {
	return func(text string, s stats.Summary, decimals int, reached bool) {
		if s.N > 0 {
			row(out, text, s.Format(decimals), map[bool]string{true: "yes", false: "no"}[reached])
		}
	}
}

// besides is the ratio of hops of a size to those of the smallest one beside them,
// round by round.
func (r *results) besides(k key) stats.Summary {
	return stats.Summarize(stats.Ratios(r.times[k], r.beside[k]))
}

func (r *results) verdicts(out *strings.Builder) {
	most, least := r.sizes[len(r.sizes)-1], r.sizes[0]
	fmt.Fprintf(out, "**Goals**\n\n")
	row(out, "goal", "measured", "reached")
	row(out, "---", "---:", "---:")
	verdict := verdictRow(out)
	if r.has(bareRelay, valueFile) {
		for _, n := range r.sizes {
			if n < mib/2-mib/32 {
				continue // it does not leave the log
			}
			s := r.ratio(key{bareRelay, n}, key{valueFile, n})
			verdict(fmt.Sprintf("by value, files, %s: throughput / relay ≥ %.1f", size(n), throughputGoal), s, 2, s.Median >= throughputGoal)
		}
	}
	for _, name := range []string{refFile, refS3} {
		if r.has(name) {
			s := r.besides(key{name, most})
			verdict(fmt.Sprintf("%s: hop at %s / hop at %s ≤ %.1f", name, size(most), size(least), hopGoal), s, 2, s.Median <= hopGoal)
		}
	}
	r.memoryVerdicts(verdict)
	out.WriteByte('\n')
}

// memoryVerdicts say what a large payload costs in memory.
func (r *results) memoryVerdicts(verdict func(text string, s stats.Summary, decimals int, reached bool)) {
	most, least := r.sizes[len(r.sizes)-1], r.sizes[0]
	for _, c := range r.wanted {
		large, small := r.memory[key{c.name, most}], r.memory[key{c.name, least}]
		var more []float64
		for i := range large {
			more = append(more, large[i]-small[i])
		}
		s := stats.Summarize(more)
		verdict(fmt.Sprintf("%s: peak memory with %d × %s less that with %d × %s ≤ %d MiB", c.name, atOnce, size(most), atOnce, size(least), memoryGoal),
			s, 0, s.Median <= memoryGoal)
	}
}
