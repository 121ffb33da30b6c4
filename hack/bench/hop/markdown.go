package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	beginMarker = "<!-- bench-hop:begin -->"
	endMarker   = "<!-- bench-hop:end -->"
)

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
func (r *results) markdown(m machine) string {
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

// writeSection puts the section between its markers in the file.
func writeSection(path, section string) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the old report: %w", err)
	}
	doc, err := splice(old, section)
	if err != nil {
		return fmt.Errorf("write the report to %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.WriteFile(path, doc, 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

var errMarkers = errors.New("it must hold " + beginMarker + " and, after it, " + endMarker + ", once each")

// splice replaces what is between the markers of doc. A document without
// markers gets them at its end.
func splice(doc []byte, section string) ([]byte, error) {
	begin, end := bytes.Index(doc, []byte(beginMarker)), bytes.Index(doc, []byte(endMarker))
	marked := beginMarker + "\n" + section + endMarker
	switch {
	case begin < 0 && end < 0:
		if len(doc) == 0 {
			doc = []byte("# Performance\n")
		}
		return fmt.Appendf(nil, "%s\n\n## Hops\n\n%s\n", bytes.TrimRight(doc, "\n"), marked), nil
	case begin < 0, end < begin,
		bytes.Count(doc, []byte(beginMarker)) > 1, bytes.Count(doc, []byte(endMarker)) > 1:
		return nil, errMarkers
	default:
		return fmt.Appendf(nil, "%s%s%s", doc[:begin], marked, doc[end+len(endMarker):]), nil
	}
}
