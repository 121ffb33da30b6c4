package telemetry

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidestep-dev/sidestep/channel/egress"
)

const patience = 20 * time.Second

// watch opens the stream and returns once the server counts the watcher.
func watch(t *testing.T, url string) (lines *bufio.Reader, leave func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	leave = func() { cancel(); resp.Body.Close() }
	t.Cleanup(leave)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/jsonl" {
		t.Fatalf("got status %d and %q", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	return bufio.NewReader(resp.Body), leave
}

func next(t *testing.T, lines *bufio.Reader) HopLine {
	t.Helper()
	line, err := lines.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var l HopLine
	if err := json.Unmarshal(line, &l); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return l
}

// wantWatchers polls until so many watch.
func wantWatchers(t *testing.T, s *Hops, want int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for int(s.watching.Load()) != want {
		if time.Now().After(deadline) {
			t.Fatalf("%d watchers, want %d", s.watching.Load(), want)
		}
		time.Sleep(time.Millisecond)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.watchers) != want {
		t.Errorf("%d watchers are kept, want %d", len(s.watchers), want)
	}
}

func serveHops(t *testing.T) (*Hops, *Metrics, string) {
	t.Helper()
	s := new(Hops)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return s, New(prometheus.NewRegistry(), s), server.URL
}

func TestHopsAreStreamed(t *testing.T) {
	t.Parallel()
	_, m, url := serveHops(t)
	lines, _ := watch(t, url)
	h := sampleHop(7)
	h.Result = &egress.Result{Status: 503, Attempts: 2, Err: errors.New("boom")}
	m.Hop(h)
	want := HopLine{
		Start: h.Start, Took: h.Took, ID: "id7", Source: "/s7", Type: "t7", Bytes: 4, Leg: "step", Travel: "stored",
		Namespace: "ns", Channel: "ch", Subscription: "sub", Dest: "http://host/7", Attempt: 2, Status: 503, Error: "boom",
	}
	got := next(t, lines)
	if !got.Start.Equal(want.Start) {
		t.Errorf("start %v, want %v", got.Start, want.Start)
	}
	got.Start = want.Start
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEachWatcherSeesEachHop(t *testing.T) {
	t.Parallel()
	_, m, url := serveHops(t)
	a, _ := watch(t, url)
	b, _ := watch(t, url)
	for i := range 3 {
		m.Hop(sampleHop(i))
	}
	for i := range 3 {
		if x, y := next(t, a).ID, next(t, b).ID; x != sampleHop(i).Event.ID || y != x {
			t.Errorf("hop %d: got %s and %s", i, x, y)
		}
	}
}

// The watcher reads nothing while far more hops are made than the connection
// and the backlog hold. Were the hot path to wait for it, this test would hang.
func TestSlowWatcherDoesNotBlockTheHotPath(t *testing.T) {
	t.Parallel()
	_, m, url := serveHops(t)
	lines, _ := watch(t, url)
	for i := range 100_000 {
		m.Hop(sampleHop(i))
	}
	// It is told of what it lost with a hop that comes later.
	for next(t, lines).Missed == 0 {
		m.Hop(sampleHop(0))
	}
}

func TestHopsThatAWatcherMissesAreCounted(t *testing.T) {
	t.Parallel()
	s := new(Hops)
	w := &watcher{lines: make(chan HopLine, hopBacklog)}
	if !s.add(w) {
		t.Fatal("refused")
	}
	for i := range hopBacklog + 5 {
		s.hop(sampleHop(i))
	}
	if n, missed := len(w.lines), w.missed.Load(); n != hopBacklog || missed != 5 {
		t.Errorf("%d wait and %d are missed, want %d and 5", n, missed, hopBacklog)
	}
}

func TestWatcherThatLeavesIsForgotten(t *testing.T) {
	t.Parallel()
	s, m, url := serveHops(t)
	_, leave := watch(t, url)
	_, stay := watch(t, url)
	wantWatchers(t, s, 2)
	leave()
	wantWatchers(t, s, 1)
	// Also one that leaves with the connection full.
	for i := range 50_000 {
		m.Hop(sampleHop(i))
	}
	stay()
	wantWatchers(t, s, 0)
}

func TestTooManyWatchersAreRefused(t *testing.T) {
	t.Parallel()
	s, _, url := serveHops(t)
	var leave func()
	for range maxWatchers {
		_, leave = watch(t, url)
	}
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", resp.StatusCode)
	}
	wantWatchers(t, s, maxWatchers)
	leave()
	wantWatchers(t, s, maxWatchers-1)
	watch(t, url)
}

func TestNobodyWatchingCostsNothing(t *testing.T) {
	s, h := new(Hops), sampleHop(1)
	if n := testing.AllocsPerRun(100, func() { s.hop(h) }); n != 0 {
		t.Errorf("%v allocations a hop", n)
	}
}
