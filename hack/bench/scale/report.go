package main

import (
	"fmt"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// What 5,000 channels are to cost a dispatcher at most, at the first start and at a
// restart.
const (
	goalReady    = 10 * time.Second
	goalMemory   = 400 << 20
	goalCPU      = 0.05
	goalFailover = 10 * time.Second
)

// result of the whole measurement on one backend.
type result struct {
	backend  string
	channels int
	machine  string
	few      int           // connections to the broker with few channels
	topics   time.Duration // on Kafka: another client's, for as many topics
	variants []variant
}

// row of the table, with a cell for each start of each variant. A goal is reached if all
// of them reach it.
type row struct {
	what          string
	cells         []string
	goal, reached string
}

// each is a row of what is measured of every start. reached: nil if there is no goal.
func (r *result) each(what, goal string, reached func(*start) bool, of func(*start) string) row {
	x := row{what: what, goal: goal}
	all := true
	for i := range r.variants {
		for j := range r.variants[i].starts {
			s := &r.variants[i].starts[j]
			x.cells = append(x.cells, of(s))
			judged := *s
			if j == 0 {
				// To make topics takes Kafka its time, whoever asks for it.
				judged.ready -= r.topics
			}
			all = all && (reached == nil || reached(&judged))
		}
	}
	if reached != nil {
		x.reached = yes(all)
	}
	return x
}

func (r *result) rows() []row {
	rows := []row{
		r.each("start until ready", r.readyGoal(), func(s *start) bool { return s.ready <= goalReady }, func(s *start) string { return seconds(s.ready) }),
		r.each("memory at rest (RSS)", "<= "+mebibytes(goalMemory), func(s *start) bool { return s.idle <= goalMemory }, func(s *start) string { return mebibytes(s.idle) }),
		r.each("processor, idle", "< "+percent(goalCPU)+" of a core", func(s *start) bool { return s.cpu < goalCPU }, func(s *start) string { return percent(s.cpu) }),
	}
	if r.backend != embedded {
		rows = append(rows, r.each("TCP connections to the broker", fmt.Sprintf("those of %d channels (%d), or twice that", fewChannels, r.few),
			func(s *start) bool { return s.connections > 0 && s.connections <= 2*r.few }, func(s *start) string { return fmt.Sprint(s.connections) }))
	}
	rows = append(rows, r.failover()...)
	return append(rows,
		r.each("processor time of the start", "", nil, func(s *start) string { return seconds(s.spent) }),
		r.each("memory after an event to every channel", "", nil, func(s *start) string { return mebibytes(s.used) }),
		r.each("memory, peak", "", nil, func(s *start) string { return mebibytes(s.peak) }),
		r.each("goroutines", "", nil, func(s *start) string { return fmt.Sprint(s.goroutines) }),
		r.each("time to accept an event for every channel", "", nil, func(s *start) string { return seconds(s.events) }),
		r.each("time until all of them were delivered", "", nil, func(s *start) string { return seconds(s.delivered) }),
		r.each("stop on SIGTERM", "", nil, func(s *start) string { return seconds(s.stop) }),
	)
}

func (r *result) readyGoal() string {
	if r.backend == onKafka {
		return fmt.Sprintf("<= %s, beyond the %s in which another client makes as many topics", seconds(goalReady), seconds(r.topics))
	}
	return "<= " + seconds(goalReady)
}

// failover are rows of the variants with several dispatchers, if there are any.
func (r *result) failover() []row {
	over := row{what: "from the death of one until every channel's next event was delivered", goal: "<= " + seconds(goalFailover)}
	accepted := row{what: "of that, until all of these events were accepted"}
	reached, any := true, false
	for _, v := range r.variants {
		cells := [2]string{}
		if v.replicas > 1 {
			any, cells = true, [2]string{seconds(v.failover), seconds(v.accepted)}
			reached = reached && v.failover <= goalFailover
		}
		over.cells, accepted.cells = append(over.cells, "", cells[0]), append(accepted.cells, "", cells[1])
	}
	if over.reached = yes(reached); !any {
		return nil
	}
	return []row{over, accepted}
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

// columns are the heads of the cells.
func (r *result) columns() (all []string) {
	for _, v := range r.variants {
		who := ""
		switch {
		case len(r.variants) > 1 && v.replicas == 1:
			who = "one: "
		case v.replicas > 1:
			who = fmt.Sprintf("%d at once: ", v.replicas)
		}
		all = append(all, who+"first start", who+"restart")
	}
	return all
}

func (r *result) title() string {
	where := map[string]string{
		embedded: "one standalone process", onNATS: "standalone processes on one external NATS server", onKafka: "standalone processes on one Kafka broker",
	}
	text := fmt.Sprintf("%d channels of %d Sequences of %d steps, %s (%s)", r.channels, r.channels/steps, steps, where[r.backend], r.machine)
	if r.backend != embedded {
		text += "; of several processes the dearest"
	}
	return text
}

// machine says what it was measured on.
func machine() string {
	return fmt.Sprintf("%s/%s, %d CPUs, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}

func (r *result) text() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s\n\n", r.title())
	w := tabwriter.NewWriter(&s, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\t%s\tgoal\treached\n", strings.Join(r.columns(), "\t"))
	for _, x := range r.rows() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", x.what, strings.Join(x.cells, "\t"), x.goal, x.reached)
	}
	w.Flush()
	return s.String()
}

func (r *result) markdown() string {
	var s strings.Builder
	head := r.columns()
	fmt.Fprintf(&s, "%s:\n\n| | %s | goal | reached |\n|%s\n", r.title(), strings.Join(head, " | "), strings.Repeat("---|", len(head)+3))
	for _, x := range r.rows() {
		fmt.Fprintf(&s, "| %s | %s | %s | %s |\n", x.what, strings.Join(x.cells, " | "), x.goal, x.reached)
	}
	return s.String()
}

// section is the report's in a document.
func (r *result) section() string {
	if r.backend == embedded {
		return "scale"
	}
	return "scale-" + r.backend
}
