package main

import (
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// journey is all that was seen of one event.
type journey struct {
	letter   *letter
	channel  string // where it was posted
	posted   time.Time
	accepted time.Duration // after posted
	hops     []hop         // in the order in which they began
	files    []kept
}

// end is when the last of it was over, from the POST on.
func (j *journey) end() time.Duration {
	end := j.accepted
	for i := range j.hops {
		end = max(end, j.hops[i].Start.Add(j.hops[i].Took).Sub(j.posted))
	}
	return end
}

// tally is what a journey's hops add up to.
type tally struct {
	total  time.Duration
	steps  time.Duration // in which a step, or more than one, was at work
	pauses time.Duration // before another attempt, and nothing else going on
	rest   time.Duration // Sidestep and the network

	writes    int // to the log
	attempts  int // to hand the event to a step or a sink
	short     int // of them without the log
	failures  int // of them
	deadTaken int // dead letters that were taken
}

func (j *journey) tally() tally {
	var t tally
	t.total = j.end()
	t.writes = 1
	busy := make([]span, 0, len(j.hops))
	pauses := make([]span, 0, len(j.hops))
	tried := make(map[string]time.Duration) // end of the last failure, by destination
	for i := range j.hops {
		h := &j.hops[i]
		start := h.Start.Sub(j.posted)
		if inProcess(h) {
			t.writes++
			continue
		}
		t.attempts++
		if h.Travel == shortCircuited && h.Leg == toStep {
			t.short++
		}
		busy = append(busy, span{start, start + h.Took})
		if last, again := tried[h.Leg+h.Dest]; again && h.Attempt > 1 {
			pauses = append(pauses, span{last, start})
		}
		if h.failed() {
			t.failures++
			tried[h.Leg+h.Dest] = start + h.Took
		} else if h.Leg == toDeadLetter {
			t.deadTaken++
		}
	}
	t.steps = union(busy)
	t.pauses = union(append(pauses, busy...)) - t.steps
	t.rest = t.total - t.steps - t.pauses
	return t
}

// inProcess tells that a hop was a publish to a channel of ours.
func inProcess(h *hop) bool { return !strings.Contains(h.Dest, "://") }

type span struct{ from, to time.Duration }

// union is the time that the spans cover.
func union(spans []span) (sum time.Duration) {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b span) int { return int(a.from - b.from) })
	var until time.Duration
	for _, s := range spans {
		if s.to > until {
			sum += s.to - max(s.from, until)
			until = s.to
		}
	}
	return sum
}

// barWidth is that of the picture of time.
const barWidth = 28

// timeline draws journeys.
type timeline struct {
	style
	names  map[string]string // of steps, by the scheme and host of their URLs
	folder string            // that files are shown beneath
}

// draw makes one line for the event, one for each hop, and one for what became
// of it.
func (tl *timeline) draw(j *journey) string {
	var b strings.Builder
	t := j.tally()
	fmt.Fprintf(&b, "  %s  %s\n", tl.bold(filepath.Base(j.letter.path)),
		tl.dim(fmt.Sprintf("%s, type %s, id %s", size(len(j.letter.data)), j.letter.kind, j.letter.id)))
	tl.row(&b, t.total, row{
		took: j.accepted, to: tl.sign("▸ ", "> ") + j.channel, status: "202", how: "to the log", paint: tl.blue,
	})
	for i := range j.hops {
		r := tl.rowOf(&j.hops[i])
		r.at = j.hops[i].Start.Sub(j.posted)
		tl.row(&b, t.total, r)
	}
	tl.outcome(&b, j, &t)
	return b.String()
}

// row is a line of a timeline.
type row struct {
	at, took time.Duration
	to       string
	status   string
	how      string
	paint    func(string) string
	remark   string
}

func (tl *timeline) rowOf(h *hop) row {
	r := row{took: h.Took, to: tl.name(h.Dest), status: fmt.Sprint(h.Status), how: h.Travel, paint: tl.green}
	switch {
	case inProcess(h):
		r.how, r.paint = "to the log", tl.blue
		if h.Leg == toSpill {
			r.remark = "kept, and tried again from here"
		}
	case h.Leg == toDeadLetter:
		r.how, r.paint = "dead letter", tl.yellow
	case h.Leg != toStep:
		r.how = h.Leg
	case h.Travel != shortCircuited:
		r.paint = tl.blue
	}
	if h.Leg == toStep && h.Status == http.StatusAccepted {
		r.remark = "no reply"
	}
	arrow := tl.sign("→ ", "-> ")
	if inProcess(h) {
		arrow = tl.sign("▸ ", "> ")
	}
	r.to = arrow + r.to
	if h.Reference {
		r.remark = size(int(h.Bytes)) + " by reference"
	}
	if h.Attempt > 1 {
		r.remark = fmt.Sprintf("attempt %d", h.Attempt)
	}
	if h.failed() {
		r.paint = tl.red
		if h.Status == 0 {
			r.status = "---"
		}
		r.remark = strings.TrimSpace(r.remark + " failed")
	}
	return r
}

func (tl *timeline) row(b *strings.Builder, total time.Duration, r row) {
	line := fmt.Sprintf("  %9s  %-24s %s  %9s  %s  %s  %s",
		brief(r.at), r.to, r.paint(r.status), brief(r.took),
		r.paint(fmt.Sprintf("%-15s", r.how)), tl.bar(r.at, r.took, total, r.paint), tl.dim(r.remark))
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}

// bar shows when within total something went on.
func (tl *timeline) bar(at, took, total time.Duration, paint func(string) string) string {
	cell := func(d time.Duration) int {
		return int(min(max(0, int64(d)*barWidth/max(1, int64(total))), barWidth))
	}
	from := min(cell(at), barWidth-1)
	to := max(cell(at+took), from+1)
	off := tl.sign("·", ".")
	return tl.dim(strings.Repeat(off, from)) +
		paint(strings.Repeat(tl.sign("█", "#"), to-from)) +
		tl.dim(strings.Repeat(off, barWidth-to))
}

// name is what people call a destination.
func (tl *timeline) name(dest string) string {
	u, err := url.Parse(dest)
	if err != nil || u.Host == "" {
		_, channel, _ := strings.Cut(dest, "/")
		return channel
	}
	name, ok := tl.names[u.Scheme+"://"+u.Host]
	if !ok {
		return dest
	}
	return name + strings.TrimSuffix(u.Path, "/")
}

func (tl *timeline) outcome(b *strings.Builder, j *journey, t *tally) {
	parts := []string{"steps " + brief(t.steps)}
	if t.pauses > 0 {
		parts = append(parts, "pauses between attempts "+brief(t.pauses))
	}
	parts = append(parts, "Sidestep "+brief(t.rest))
	fmt.Fprintf(b, "  %9s  = %s; %s to the log, %s, %d short-circuited\n",
		tl.bold(fmt.Sprintf("%9s", brief(t.total))), strings.Join(parts, " + "),
		count(t.writes, "write"), count(t.attempts, "call"), t.short)
	for _, f := range j.files {
		file := f.File
		if rel, err := filepath.Rel(tl.folder, f.File); err == nil {
			file = rel
		}
		mark := tl.green(tl.sign("✓", "ok"))
		if t.deadTaken > 0 {
			mark = tl.yellow(tl.sign("✗", "dead letter:"))
		}
		fmt.Fprintf(b, "  %9s  %s %s  %s\n", "", mark, file, tl.dim(size(f.Bytes)))
	}
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
