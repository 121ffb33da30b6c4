package sidecar

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/colocate/wire"
	"github.com/sidestep-dev/sidestep/internal/freeport"
)

func TestTheStepsRunInOrder(t *testing.T) {
	t.Parallel()
	a, b, c := newStepServer(t, nil), newStepServer(t, nil), newStepServer(t, nil)
	p := newPod(t, nil, a, b, c)
	for range 3 {
		got := p.post("x", noLimits, "ce-ext", "a%20b", "traceparent", "00-trace")
		got.want(t, wire.Completed, 0, 0, 3, fmt.Sprintf("x>%d>%d>%d", a.port, b.port, c.port))
		if got.status != http.StatusOK || got.event.ID != "1" || got.event.Get("ext") != "a b" || got.event.DataContentType != "text/plain" {
			t.Errorf("%d, %+v", got.status, got.event)
		}
		if got.entered != nil {
			t.Error("an event came that nobody asked for")
		}
	}
}

func TestAStepIsCalledAsADispatcherCallsIt(t *testing.T) {
	t.Parallel()
	requests := make(chan *http.Request, 2)
	step := newStepServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(b)))
		requests <- r
		w.WriteHeader(http.StatusAccepted)
	})
	p := newPod(t, nil, step)
	s := &p.slip.Steps[0]
	s.Path, s.Host, s.Authorization, s.Format = "/in/x?y=z", "caption.pics.svc", "Bearer abc", egress.Structured
	p.post(`{"a":1}`, noLimits, "content-type", "application/json", "sidestep-secret", "s", "sidestep-claim", "size=1",
		"traceparent", "00-trace", "x-other", "o", "cookie", "c").want(t, wire.Completed, 0, 0, 1, "-")
	r := <-requests
	if r.RequestURI != s.Path || r.Host != s.Host {
		t.Errorf("%s at %s", r.RequestURI, r.Host)
	}
	want := map[string]string{
		"Prefer": "reply", "Kn-Namespace": "flows", "Authorization": "Bearer abc", "Traceparent": "00-trace",
		"Content-Type": event.StructuredContentType, "Content-Length": r.Header.Get("Content-Length"),
	}
	for name, values := range r.Header {
		if values[0] != want[name] {
			t.Errorf("header %s: %q", name, values)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	if b, _ := io.ReadAll(r.Body); !strings.Contains(string(b), `"data":{"a":1}`) {
		t.Errorf("body %s", b)
	}
}

func TestAStepThatAnswersNothingEndsTheChain(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"202 with an event": func(w http.ResponseWriter, _ *http.Request) {
			asEvent(w)
			w.WriteHeader(http.StatusAccepted)
		},
		"204":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"no event": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "thanks") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after := newStepServer(t, nil)
			p := newPod(t, nil, newStepServer(t, nil), newStepServer(t, h), after)
			p.slip.Entering = true
			got := p.post("x", noLimits)
			got.want(t, wire.Completed, 0, 0, 2, "-")
			if got.body != "" || after.calls.Load() != 0 {
				t.Errorf("body %q; the step after it was called %d times", got.body, after.calls.Load())
			}
		})
	}
}

// hangUpStep is a step that reads a request, writes something and hangs up.
func hangUpStep(t *testing.T, write string) *stepServer {
	t.Helper()
	return newStepServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(c, write)
		c.Close()
	})
}

// nobody is a step of which only the port is left.
func nobody(t *testing.T) *stepServer {
	t.Helper()
	a, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return &stepServer{port: netip.MustParseAddrPort(a).Port()}
}

const answerHead = "HTTP/1.1 200 OK\r\nCe-Specversion: 1.0\r\nCe-Id: 1\r\nCe-Source: /s\r\nCe-Type: t\r\n"

// Whatever a step does, the event that entered it comes back whole, with what was
// seen.
func TestTroubleGivesTheEventBackFromBeforeTheStep(t *testing.T) {
	t.Parallel()
	hangs := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that we hang up
		<-r.Context().Done()
	}
	tests := []struct {
		name   string
		step   func(*testing.T) *stepServer
		reason wire.Reason
		seen   wire.Seen // without Timing; Error is a part of the text
	}{
		{
			"503", func(t *testing.T) *stepServer {
				t.Helper()
				return newStepServer(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Retry-After", "7")
					w.WriteHeader(http.StatusServiceUnavailable)
					_, _ = io.WriteString(w, strings.Repeat("b", 5000))
				})
			},
			wire.Status,
			wire.Seen{Status: 503, RetryAfter: 7 * time.Second, Body: []byte(strings.Repeat("b", 1024)), Error: "503"},
		},
		{
			"a redirect", func(t *testing.T) *stepServer {
				t.Helper()
				return newStepServer(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) })
			},
			wire.Status,
			wire.Seen{Status: 302, Error: "302"},
		},
		{
			"an event without an id", func(t *testing.T) *stepServer {
				t.Helper()
				return hangUpStep(t, "HTTP/1.1 200 OK\r\nCe-Specversion: 1.0\r\nContent-Length: 0\r\n\r\n")
			},
			wire.Status,
			wire.Seen{Status: 200, Error: "id"},
		},
		{"nobody listens", nobody, wire.Unreachable, wire.Seen{Error: "refused"}},
		{
			"no answer", func(t *testing.T) *stepServer { t.Helper(); return hangUpStep(t, "") },
			wire.Unreachable,
			wire.Seen{Error: "EOF"},
		},
		{
			"half a header", func(t *testing.T) *stepServer { t.Helper(); return hangUpStep(t, answerHead) },
			wire.Unreachable,
			wire.Seen{},
		},
		{
			"half a body", func(t *testing.T) *stepServer {
				t.Helper()
				return hangUpStep(t, answerHead+"Content-Length: 10\r\n\r\n12345")
			},
			wire.Unreachable,
			wire.Seen{Error: "EOF"},
		},
		{
			"half a chunk", func(t *testing.T) *stepServer {
				t.Helper()
				return hangUpStep(t, answerHead+"Transfer-Encoding: chunked\r\n\r\n5\r\n123")
			},
			wire.Unreachable,
			wire.Seen{Error: "EOF"},
		},
		{
			"no HTTP", func(t *testing.T) *stepServer { t.Helper(); return hangUpStep(t, "hello\r\n\r\n") },
			wire.Unreachable,
			wire.Seen{},
		},
		{
			"it hangs", func(t *testing.T) *stepServer { t.Helper(); return newStepServer(t, hangs) },
			wire.Timeout,
			wire.Seen{Error: "timeout"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			before, after, step := newStepServer(t, nil), newStepServer(t, nil), tt.step(t)
			p := newPod(t, nil, before, step, after)
			if tt.reason == wire.Timeout {
				p.slip.Steps[1].Timeout = 50 * time.Millisecond
			}
			check := func(got *answer) {
				t.Helper()
				if got.status != http.StatusOK || got.Seen.Status != tt.seen.Status || got.Seen.RetryAfter != tt.seen.RetryAfter ||
					!strings.HasPrefix(string(got.Seen.Body), string(tt.seen.Body)) || !strings.Contains(got.Seen.Error, tt.seen.Error) {
					t.Errorf("%d, seen %+v\nwant %+v", got.status, got.Seen, tt.seen)
				}
			}
			got := p.post("x", noLimits)
			got.want(t, wire.Spilled, tt.reason, 1, 1, fmt.Sprintf("x>%d", before.port))
			check(got)
			// At the head of the chain whoever posted has the event.
			first := noLimits
			first.Start = 1
			got = p.post("x", first)
			got.want(t, wire.Spilled, tt.reason, 1, 0, "-")
			check(got)
			if n := after.calls.Load(); n != 0 {
				t.Errorf("the step after it was called %d times", n)
			}
		})
	}
}

func TestTheEventThatEnteredTheLastStepComesWithItsAnswer(t *testing.T) {
	t.Parallel()
	a, b := newStepServer(t, nil), newStepServer(t, answerer("final"))
	p := newPod(t, nil, a, b)
	p.slip.Entering = true
	got := p.post("x", noLimits, "ce-ext", "e")
	got.want(t, wire.Completed, 0, 0, 2, "final")
	if want := fmt.Sprintf("x>%d", a.port); got.entered == nil || string(got.entered.Data) != want || got.entered.Get("ext") != "e" {
		t.Errorf("entered %+v, want %q", got.entered, want)
	}
	// One that came with the request does not go back.
	l := noLimits
	l.Start = 1
	if got = p.post("x", l); got.entered != nil {
		t.Errorf("entered %+v", got.entered)
	}
	// A step that is not the slip's last is not asked about.
	l = noLimits
	l.Steps = 1
	got = p.post("x", l)
	got.want(t, wire.Completed, 0, 0, 1, fmt.Sprintf("x>%d", a.port))
	if got.entered != nil {
		t.Errorf("entered %+v", got.entered)
	}
}

func TestAChainEndsBeforeTheLastStepIfWhatEntersItIsTooLargeToComeBackTwice(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", wire.MaxEntering)
	last := newStepServer(t, nil)
	p := newPod(t, nil, newStepServer(t, answerer(large)), last)
	p.slip.Entering = true
	p.post("x", noLimits).want(t, wire.Spilled, wire.TooLarge, 1, 1, large)
	if last.calls.Load() != 0 {
		t.Error("the last step was called")
	}
	p.slip.Entering = false
	p.post("x", noLimits).want(t, wire.Completed, 0, 0, 2, fmt.Sprintf("%s>%d", large, last.port))
}

func TestAnAnswerThatGoesNowhereIsNotSentBack(t *testing.T) {
	t.Parallel()
	a, b := newStepServer(t, nil), newStepServer(t, nil)
	p := newPod(t, nil, a, b)
	p.slip.Discard = true
	p.post("x", noLimits).want(t, wire.Completed, 0, 0, 2, "-")
	l := noLimits
	l.Steps = 1
	p.post("x", l).want(t, wire.Completed, 0, 0, 1, fmt.Sprintf("x>%d", a.port))
}

func TestLimitsEndAChain(t *testing.T) {
	t.Parallel()
	a, b, c := newStepServer(t, nil), newStepServer(t, nil), newStepServer(t, nil)
	p := newPod(t, nil, a, b, c)
	afterA := fmt.Sprintf("x>%d", a.port)
	with := func(f func(*wire.Limits)) wire.Limits {
		l := noLimits
		f(&l)
		return l
	}
	p.post("x", with(func(l *wire.Limits) { l.Budget = 0 })).want(t, wire.Spilled, wire.Checkpoint, 1, 1, afterA)
	p.post("x", with(func(l *wire.Limits) { l.Budget = time.Hour })).want(t, wire.Completed, 0, 0, 3, fmt.Sprintf("%s>%d>%d", afterA, b.port, c.port))
	p.post("x", with(func(l *wire.Limits) { l.Room = 10 })).want(t, wire.Spilled, wire.TooLarge, 1, 1, afterA)
	p.post("x", with(func(l *wire.Limits) { l.Start, l.Steps = 1, 1 })).want(t, wire.Completed, 0, 0, 1, fmt.Sprintf("x>%d", b.port))
	p.post("x", with(func(l *wire.Limits) { l.Start, l.Steps = 2, 64 })).want(t, wire.Completed, 0, 0, 1, fmt.Sprintf("x>%d", c.port))
	if got := p.post("x", with(func(l *wire.Limits) { l.Start = 3 })); got.status != http.StatusBadRequest || got.Reason != wire.NotMine {
		t.Errorf("start beyond the end: %d %+v", got.status, got.Outcome)
	}
}

// An event whose data is an event itself can only travel in structured mode.
func TestAnEventWithinAnEventComesThrough(t *testing.T) {
	t.Parallel()
	inner := `{"specversion":"1.0","id":"inner"}`
	step := newStepServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		_, _ = w.Write(b)
	})
	p := newPod(t, nil, step)
	doc := `{"specversion":"1.0","id":"outer","source":"/s","type":"t","datacontenttype":"application/cloudevents+json","data":` + inner + `}`
	req := p.request(t.Context(), strings.NewReader(doc), noLimits, "content-type", event.StructuredContentType)
	for name := range req.Header {
		if strings.HasPrefix(name, "Ce-") {
			req.Header.Del(name)
		}
	}
	l := noLimits
	l.Steps = 1
	req.Header.Set(wire.LimitsHeader, string(l.Append(nil)))
	got, err := p.do(req)
	if err != nil {
		t.Fatal(err)
	}
	got.want(t, wire.Completed, 0, 0, 1, inner)
	if got.event.ID != "outer" {
		t.Errorf("%+v", got.event)
	}
}
