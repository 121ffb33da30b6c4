package ingress_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// sink takes records and forgets them: what is measured is ingress alone.
type sink struct{ backend.Backend }

func (sink) Publish(context.Context, string, *backend.Record) error { return nil }

// blank is a response that costs nothing.
type blank struct {
	header http.Header
	status int
}

func (b *blank) Header() http.Header         { return b.header }
func (b *blank) Write(p []byte) (int, error) { return len(p), nil }
func (b *blank) WriteHeader(status int)      { b.status = status }

// SetReadDeadline as net/http's responses have it.
func (b *blank) SetReadDeadline(time.Time) error { return nil }

// oneEvent posts an event of 1 KiB again and again.
func oneEvent(tb testing.TB) (post func(), status func() int) {
	tb.Helper()
	f := newFixture(tb, func(s *setup) {
		s.wrap = func(b backend.Backend) backend.Backend { return sink{b} }
	})
	f.handler.Observe = nil
	data := []byte(strings.Repeat("x", 1024))
	body := bytes.NewReader(data)
	r := request(context.Background(), "http://ingress", "", func(r *http.Request) {
		r.Header.Set("ce-time", "2026-01-02T03:04:05Z")
		r.Header.Set("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
		r.Body, r.ContentLength = io.NopCloser(body), int64(len(data))
	})
	w := &blank{header: make(http.Header)}
	return func() {
		body.Reset(data)
		f.handler.ServeHTTP(w, r)
	}, func() int { return w.status }
}

// maxAllocs is per event, at ingress, beside those of net/http. The incumbent
// makes 264 per delivery.
const maxAllocs = 16

func TestAllocationsPerEvent(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates on its own account")
	}
	post, status := oneEvent(t)
	got := testing.AllocsPerRun(200, post)
	if status() != http.StatusAccepted {
		t.Fatalf("got status %d", status())
	}
	if got > maxAllocs {
		t.Errorf("%v allocations per event, want at most %d", got, maxAllocs)
	}
	t.Logf("%v allocations per event", got)
}

func BenchmarkIngress(b *testing.B) {
	post, status := oneEvent(b)
	b.ReportAllocs()
	b.SetBytes(1024)
	for b.Loop() {
		post()
	}
	if status() != http.StatusAccepted {
		b.Fatalf("got status %d", status())
	}
}
