package main

import (
	"fmt"
	"strings"
	"time"
)

const sectionName = "bench-failover"

// What it is to be, with 5,000 logs.
const (
	goalFailover = 10 * time.Second
	goalMemory   = 400 << 20
	goalCPU      = 0.05
)

func report(o options, results map[string]result, on string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "`make bench-failover` writes this section. Do not edit it.\n\n"+
		"%d processes share %d logs on one external broker, each of them a member of every log's group; one is killed with SIGKILL, and a record "+
		"published to each log right after (%s). What a process costs is that of the dearest of them, with all logs idle.\n\n", o.processes, o.logs, on)
	head, line := "| ", "|---"
	for _, kind := range o.brokers {
		head, line = head+"| "+kind+" ", line+"|---:"
	}
	fmt.Fprintf(&b, "%s| goal | reached |\n%s|---|---|\n", head, line)
	row := func(what, goal string, reached func(result) bool, of func(result) string) {
		fmt.Fprintf(&b, "| %s ", what)
		all := true
		for _, kind := range o.brokers {
			fmt.Fprintf(&b, "| %s ", of(results[kind]))
			all = all && (reached == nil || reached(results[kind]))
		}
		verdict := ""
		if reached != nil {
			verdict = map[bool]string{true: "yes", false: "no"}[all]
		}
		fmt.Fprintf(&b, "| %s | %s |\n", goal, verdict)
	}
	row("from the kill until every log's record has come, s", fmt.Sprintf("<= %.0f", goalFailover.Seconds()),
		func(r result) bool { return r.failover <= goalFailover }, func(r result) string { return seconds(r.failover) })
	row(fmt.Sprintf("logs whose record came after more than %.0f s", usual.Seconds()), "", nil,
		func(r result) string { return fmt.Sprint(r.late) })
	row("the median of those, s", "", nil, func(r result) string { return seconds(r.half) })
	row("memory at rest (RSS), MiB", fmt.Sprintf("<= %d", goalMemory>>20),
		func(r result) bool { return r.worst().memory <= goalMemory }, func(r result) string { return fmt.Sprint(r.worst().memory >> 20) })
	row("processor, idle, of a core", fmt.Sprintf("< %.0f%%", 100*goalCPU),
		func(r result) bool { return r.worst().cpu < goalCPU }, func(r result) string { return fmt.Sprintf("%.1f%%", 100*r.worst().cpu) })
	row("sockets", "", nil, func(r result) string { return fmt.Sprint(r.worst().connections) })
	row(fmt.Sprintf("%d processes ready, one after the other, s", o.processes), "", nil, func(r result) string { return seconds(r.ready) })
	return b.String()
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()) }

// worst is the most of each.
func (r result) worst() (w cost) {
	for _, c := range r.members {
		w.memory, w.connections, w.cpu = max(w.memory, c.memory), max(w.connections, c.connections), max(w.cpu, c.cpu)
	}
	return w
}
