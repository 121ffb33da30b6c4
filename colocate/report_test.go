package colocate

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/colocate/balance"
	"github.com/sidestep-dev/sidestep/colocate/sidecar"
	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// The sidecar writes its load report without the package that reads it, since it is
// to be small. These tests hold the two together.

// reportOf reads a report as the dispatcher does.
func reportOf(t *testing.T, text string) *balance.Report {
	t.Helper()
	r := new(balance.Report)
	if err := balance.ParseReport(text, r); err != nil {
		t.Fatalf("the dispatcher refuses %q: %v", text, err)
	}
	return r
}

// greeted is the report of a pod that was asked who it is.
func greeted(t *testing.T, p *localPod) *balance.Report {
	t.Helper()
	resp, err := http.Get(p.url + wire.HandshakePath)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body) //nolint:errcheck // the header is there
	return reportOf(t, resp.Header.Get(balance.Header))
}

// loadOf finds a step in a report by the name under which the dispatcher looks for it.
func loadOf(t *testing.T, r *balance.Report, s *step) balance.Load {
	t.Helper()
	name := newPod(Pod{ID: "p", Ports: map[string]uint16{"ns/" + s.name: s.port}}).steps["ns/"+s.name]
	for _, l := range r.Steps {
		if l.Step == name {
			return l
		}
	}
	t.Fatalf("no step %s in %+v", name, r)
	return balance.Load{}
}

func TestADispatcherReadsWhatASidecarSaysOfItsLoad(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	const places = 3
	p := w.pod("p", func(c *sidecar.Config) { c.MaxInFlight = places; c.MaxWait = patience }, w.steps...)
	a, b := w.steps[0], w.steps[1]
	if got := greeted(t, p); got.Elapsed != 0 || len(got.Steps) != 2 ||
		loadOf(t, got, a) != (balance.Load{Step: loadOf(t, got, a).Step, Limit: places}) {
		t.Errorf("idle: %+v", got)
	}
	release := make(chan struct{})
	b.answer = func(int, *http.Request) int { <-release; return 0 }
	rec := &recorder{Sender: w.client}
	w.pods.sender = rec
	w.apply("p")
	for _, id := range []string{"1", "2", "3", "4", "5"} {
		w.publish(ev(id))
	}
	w.eventually("all places of b are taken, and two chains wait", func() bool {
		l := loadOf(t, greeted(t, p), b)
		return l.InFlight == places && l.Queue == 2
	})
	busy := greeted(t, p)
	if l := loadOf(t, busy, b); l.Limit != places || l.ServiceTime != 0 {
		t.Errorf("b when busy, before it has answered: %+v", l)
	}
	if l := loadOf(t, busy, a); l.InFlight != 0 || l.Queue != 0 || l.ServiceTime <= 0 {
		t.Errorf("a after five calls: %+v", l)
	}
	close(release)
	w.settled()
	if l := loadOf(t, greeted(t, p), b); l.InFlight != 0 || l.Queue != 0 || l.ServiceTime <= 0 {
		t.Errorf("b when all is over: %+v", l)
	}
	reports := rec.reports()
	if len(reports) == 0 {
		t.Fatal("no answer came by way of the sidecar")
	}
	for _, text := range reports {
		r := reportOf(t, text)
		if service := loadOf(t, r, b).ServiceTime; r.Elapsed <= 0 || service <= 0 || len(r.Steps) != 2 {
			t.Errorf("an answer's report: %+v", r)
		}
	}
}

// recorder keeps the reports of the answers.
type recorder struct {
	egress.Sender
	mu  sync.Mutex
	all []string
}

func (r *recorder) Send(ctx context.Context, req *egress.Request, f egress.Format, timeout time.Duration) egress.Result {
	res := r.Sender.Send(ctx, req, f, timeout)
	if res.Status == http.StatusOK {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, res.Fields[1])
	}
	return res
}

func (r *recorder) reports() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// As many steps as a sidecar may have, however busy, must fit into a report: of one
// that is refused nothing is known, and a step that is left out seems to be idle.
func TestAReportSpeaksOfAllSteps(t *testing.T) {
	t.Parallel()
	var c sidecar.Config
	p := startPod(t, "p", func(cfg *sidecar.Config) {
		cfg.MaxInFlight = 1 << 16
		for i := range sidecar.MaxPorts {
			cfg.Allow = append(cfg.Allow, sidecar.Port{Number: uint16(65535 - i)})
		}
		c = *cfg
	})
	if got := greeted(t, p); len(got.Steps) != len(c.Allow) || len(got.Steps) > balance.MaxSteps {
		t.Errorf("of %d steps %d are reported", len(c.Allow), len(got.Steps))
	}
	for _, l := range greeted(t, p).Steps {
		if l.Limit != c.MaxInFlight {
			t.Errorf("step %s: %+v", l.Step, l)
		}
	}
}

func TestChainsRunInPodsOfTheOwnZone(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	w.pod("far", nil, w.steps...)
	w.pod("near", nil, w.steps...)
	w.m.Zone, w.m.Pods[0].Zone, w.m.Pods[1].Zone = "west", "east", "west"
	w.apply("far", "near")
	const in = "step a %[1]s stored 200; step b %[1]s colocated 200: completed"
	for i := range 20 {
		w.publish(ev(fmt.Sprint(i)))
		w.settled()
		wantStory(t, w, fmt.Sprintf(in, "near"))
	}
	// What is known of zones may come later than the pods.
	moved := w.m
	moved.Zone = "east"
	if err := w.pods.SetMap(&moved); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		w.publish(ev(fmt.Sprint("more", i)))
		w.settled()
		wantStory(t, w, fmt.Sprintf(in, "far"))
	}
}
