package main

import (
	"fmt"
	"strings"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/machine"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/stats"
)

// podSection is the part of the document that -colocate writes.
const podSection = "bench-colocate-payload"

const podMethod = "`make bench-colocate` writes this section. Do not edit it.\n\n" +
	`The first step answers with a payload of each size, which the sidecar (256 KiB in memory, what is larger in a file of the pod's memory volume) or a bare relay (a file
there, net/http, nothing checked) takes in whole. By value: from just before that answer is written until the second step has read all of it. By reference: 32 more steps pass
on the path that they get; a *hop* is the time from just before a step writes its answer until the next step's handler is entered. One payload at a time; memory is the
sidecar's peak with four at once. checkpointAfter is 10m, so that no chain is stored for taking long.
`

// podGoal is the least of a bare relay's throughput.
const podGoal = 0.8

// podMarkdown is the report of what goes from step to step within a pod.
func (r *results) podMarkdown(on machine.Machine) string {
	var out strings.Builder
	out.WriteString(podMethod + "\n")
	row(&out, "payload", "relay, MiB/s", "sidecar, MiB/s", "sidecar / relay", "a hop by reference, µs", "/ 1 KiB")
	row(&out, "---", "---:", "---:", "---:", "---:", "---:")
	most, least := r.sizes[len(r.sizes)-1], r.sizes[0]
	for _, n := range r.sizes {
		row(&out, size(n), r.rate(podRelay, n).Format(1), r.rate(podValue, n).Format(1), r.ratio(key{podRelay, n}, key{podValue, n}).Format(2),
			stats.Summarize(r.times[key{podRef, n}]).Format(0), r.ratio(key{podRef, n}, key{podRef, least}).Format(2))
	}
	out.WriteString("\n")
	row(&out, "goal", "measured", "reached")
	row(&out, "---", "---:", "---:")
	verdict := verdictRow(&out)
	s := r.ratio(key{podRelay, most}, key{podValue, most})
	verdict(fmt.Sprintf("by value, %s: throughput / relay ≥ %.1f", size(most), podGoal), s, 2, s.Median >= podGoal)
	s = r.ratio(key{podRef, most}, key{podRef, least})
	verdict(fmt.Sprintf("by reference: hop at %s / hop at %s ≤ %.1f", size(most), size(least), hopGoal), s, 2, s.Median <= hopGoal)
	r.memoryVerdicts(verdict)
	others := stats.Summarize(r.foreign)
	fmt.Fprintf(&out, "\n- Measured on %s. Rounds: %d, each with every contender once, in a shuffled order.\n", on, r.rounds)
	fmt.Fprintf(&out, "- Part of all processor time that other programs used meanwhile: %s.\n", others.Format(2))
	return out.String()
}
