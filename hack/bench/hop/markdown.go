package main

import (
	"fmt"
	"strings"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/machine"
)

// sectionName is that of the report in a document.
const sectionName = "bench-hop"

// command is how the report is made.
const command = "make bench-hop"

// method is what a reader of the report must know of how it was made; doc.go
// tells more.
const method = `Each contender carries the same 1 KiB CloudEvent through the same five steps, which run in
another process and answer with an event of their own. Every measurement has new processes; the
generator, the contender and the steps share the cores. A hop is the time from just before a step
writes its answer until the next step's handler is entered, one event at a time. Throughput is with
32 events in flight, each from its POST until the last step has it; CPU is that of the contender's
process, per sequence (the direct chain has none of its own: its steps do the posting). The two
loops keep nothing; the direct chain and the in-memory channel answer after the last step; the raw
JetStream loop and Sidestep (the released binary, standalone, embedded JetStream, files on disk,
its default sync) answer when the event is stored.

Ingress is measured on a channel whose only step hangs. *Raw publish* is JetStream without HTTP: 64
goroutines publish asynchronously and wait for their acks, either in the server's own process or
from another one over loopback. *HTTP 202* with nothing behind it, and with a raw publish behind it,
show what of the difference is HTTP's own; they have the same generator as Sidestep.
`

// markdown is the report as a section of a document.
func (r *results) markdown(m machine.Machine) string { return r.markdownAs(m, command, method) }

func (r *results) markdownAs(m machine.Machine, command, method string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "`%s` writes this section. Do not edit it.\n\n%s\n", command, method)
	for _, t := range r.tables() {
		fmt.Fprintf(&out, "**%s**\n\n", t.title)
		writeRow(&out, t.head)
		out.WriteString("|---" + strings.Repeat("|---:", len(t.head)-1) + "|\n")
		for _, row := range t.rows {
			writeRow(&out, row)
		}
		out.WriteByte('\n')
	}
	for _, note := range r.notes(m) {
		fmt.Fprintf(&out, "- %s\n", note)
	}
	return out.String()
}

func writeRow(out *strings.Builder, cells []string) {
	for _, cell := range cells {
		fmt.Fprintf(out, "| %s ", strings.ReplaceAll(cell, "|", `\|`))
	}
	out.WriteString("|\n")
}
