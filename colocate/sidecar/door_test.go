package sidecar

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// gate is a step that holds its calls until it is told to answer them.
type gate struct {
	*stepServer
	entered chan string   // the data of a call that has come
	open    chan struct{} // one for each that may go
	gone    chan struct{} // one for each whose caller has hung up
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{entered: make(chan string, 16), open: make(chan struct{}, 16), gone: make(chan struct{}, 16)}
	g.stepServer = newStepServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		g.entered <- string(b)
		select {
		case <-g.open:
			asEvent(w)
			fmt.Fprintf(w, "%s>gate", b)
		case <-r.Context().Done():
			g.gone <- struct{}{}
		}
	})
	return g
}

func receive[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("it does not come to be: %s", what)
	}
	return v
}

// background posts, and yields what came of it.
func (p *pod) background(data string, l wire.Limits) <-chan *answer {
	p.t.Helper()
	c := make(chan *answer, 1)
	req := p.request(context.Background(), strings.NewReader(data), l)
	go func() {
		a, err := p.do(req)
		if err != nil {
			p.t.Error(err)
			a = new(answer)
		}
		c <- a
	}()
	return c
}

func TestAChainIsTurnedAwayAtTheDoorWhileTheFirstStepIsFull(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	p := newPod(t, func(c *Config) { c.MaxInFlight = 2 }, g.stepServer)
	a, b := p.background("a", noLimits), p.background("b", noLimits)
	receive(t, g.entered, "a call")
	receive(t, g.entered, "a call")
	for range 3 { // on a connection that is kept
		got := p.post("c", noLimits)
		got.want(t, wire.Busy, wire.Overload, 0, 0, "-")
		if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "1" || got.Seen.RetryAfter != time.Second {
			t.Errorf("%d, %v, %+v", got.status, got.header, got.Seen)
		}
		if report := got.header.Get(reportHeader); !strings.Contains(report, fmt.Sprintf(
			"TEXT application_utilization:1.000,named_metrics.sidestep.%d.limit:2,named_metrics.sidestep.%d.in_flight:2", g.port, g.port)) {
			t.Errorf("report %s", report)
		}
	}
	g.open <- struct{}{}
	g.open <- struct{}{}
	receive(t, a, "an answer").want(t, wire.Completed, 0, 0, 1, "a>gate")
	receive(t, b, "an answer").want(t, wire.Completed, 0, 0, 1, "b>gate")
	g.open <- struct{}{}
	p.post("d", noLimits).want(t, wire.Completed, 0, 0, 1, "d>gate")
}

func TestAChainIsTurnedAwayWhileThereIsNoMemory(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	p := newPod(t, func(c *Config) { c.Memory = 3 * overhead / 2 }, g.stepServer)
	a := p.background("a", noLimits)
	receive(t, g.entered, "a call")
	p.post("b", noLimits).want(t, wire.Busy, wire.Overload, 0, 0, "-")
	g.open <- struct{}{}
	receive(t, a, "an answer").want(t, wire.Completed, 0, 0, 1, "a>gate")
}

func TestAChainWaitsInTheMiddleForAsLongAsItMay(t *testing.T) {
	t.Parallel()
	first, g := newStepServer(t, nil), newGate(t)
	p := newPod(t, func(c *Config) { c.MaxInFlight = 1 }, first, g.stepServer)
	entering := fmt.Sprintf("x>%d", first.port)
	a := p.background("x", noLimits)
	receive(t, g.entered, "a call")
	l := noLimits
	l.SpillAfter = 0
	p.post("x", l).want(t, wire.Spilled, wire.Overload, 1, 1, entering)
	l.SpillAfter = 20 * time.Millisecond
	p.post("x", l).want(t, wire.Spilled, wire.Overload, 1, 1, entering)
	// One that waits gets the place that comes free.
	b := p.background("x", noLimits)
	waiting := p.steps[1]
	p.eventually("one waits", func() bool { return waiting.waiting.Load() == 1 })
	g.open <- struct{}{}
	receive(t, a, "an answer").want(t, wire.Completed, 0, 0, 2, entering+">gate")
	receive(t, g.entered, "the one that waited")
	g.open <- struct{}{}
	got := receive(t, b, "an answer")
	got.want(t, wire.Completed, 0, 0, 2, entering+">gate")
	if got.Ran[1].Wait <= 0 || got.Ran[0].Wait != 0 {
		t.Errorf("timings %v", got.Ran)
	}
}

// What a busy pod has given back may wait in this one, in turn with what is in it.
func TestAChainThatIsHandedOverWaitsAtTheDoor(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	p := newPod(t, func(c *Config) { c.MaxInFlight = 1 }, g.stepServer)
	a := p.background("a", noLimits)
	receive(t, g.entered, "a call")
	l := noLimits
	l.Wait = 20 * time.Millisecond
	p.post("x", l).want(t, wire.Spilled, wire.Overload, 0, 0, "-")
	l.Wait = patience
	b := p.background("b", l)
	p.eventually("one waits", func() bool { return p.steps[0].waiting.Load() == 1 })
	p.post("c", noLimits).want(t, wire.Busy, wire.Overload, 0, 0, "-")
	g.open <- struct{}{}
	receive(t, a, "an answer").want(t, wire.Completed, 0, 0, 1, "a>gate")
	receive(t, g.entered, "the one that waited")
	g.open <- struct{}{}
	got := receive(t, b, "an answer")
	got.want(t, wire.Completed, 0, 0, 1, "b>gate")
	if got.Ran[0].Wait <= 0 {
		t.Errorf("timings %v", got.Ran)
	}
}

func TestASlipThatIsNoGoodHasNothingCalled(t *testing.T) {
	t.Parallel()
	step, other := newStepServer(t, nil), newStepServer(t, nil)
	p := newPod(t, func(c *Config) { c.Allow = c.Allow[:1] }, step, other)
	_, stranger := keyPair("stranger")
	sign := func(s *wire.Signer, change func(*wire.Slip)) string {
		slip := *p.slip
		slip.Steps = append([]wire.Step(nil), p.slip.Steps[:1]...)
		change(&slip)
		h, err := s.Sign(&slip)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	good := sign(p.signer, func(*wire.Slip) {})
	for _, tt := range []struct{ name, slip, want string }{
		{"forged", sign(wire.NewSigner(stranger), func(*wire.Slip) {}), "trusted key"},
		{"changed", good[:20] + "AAAA" + good[24:], ""},
		{"expired", sign(p.signer, func(s *wire.Slip) { s.Expires = time.Now().Add(-time.Hour) }), "expired"},
		{"another pod", sign(p.signer, func(s *wire.Slip) { s.Pod = "pod-2" }), "another pod"},
		{"another namespace", sign(p.signer, func(s *wire.Slip) { s.Namespace = "n" }), "another pod"},
		{"another port", sign(p.signer, func(s *wire.Slip) { s.Steps[0].Port = other.port }), "not allowed"},
		{"another port further on", sign(p.signer, func(s *wire.Slip) {
			s.Steps = append(s.Steps, wire.Step{UID: "x", Port: other.port, Path: "/"})
		}), "not allowed"},
	} {
		got := p.post("x", noLimits, wire.SlipHeader, tt.slip)
		got.want(t, wire.Spilled, wire.NotMine, 0, 0, "-")
		if got.status != http.StatusForbidden || !strings.Contains(got.Seen.Error, tt.want) || !strings.Contains(got.body, tt.want) {
			t.Errorf("%s: %d %q %s", tt.name, got.status, got.Seen.Error, got.body)
		}
	}
	req := p.request(t.Context(), strings.NewReader("x"), noLimits, wire.SlipHeader, good)
	req.Header.Del(wire.SlipHeader)
	if got, err := p.do(req); err != nil || got.status != http.StatusBadRequest || got.Kind != 0 {
		t.Errorf("no slip: %+v, %v", got, err)
	}
	if got := p.post("x", noLimits, wire.SlipHeader, good, wire.LimitsHeader, "nonsense"); got.status != http.StatusBadRequest || got.Reason != wire.NotMine {
		t.Errorf("no limits: %d %+v", got.status, got.Outcome)
	}
	if got := p.post("x", noLimits, wire.SlipHeader, good, "ce-id", ""); got.status != http.StatusBadRequest || got.Reason != wire.NotMine {
		t.Errorf("no event: %d %+v", got.status, got.Outcome)
	}
	if step.calls.Load() != 0 || other.calls.Load() != 0 {
		t.Fatalf("steps were called: %d, %d", step.calls.Load(), other.calls.Load())
	}
	p.post("x", noLimits, wire.SlipHeader, good).want(t, wire.Completed, 0, 0, 1, fmt.Sprintf("x>%d", step.port))
}

func TestARequestThatIsCancelledCancelsItsStep(t *testing.T) {
	t.Parallel()
	first, g, last := newStepServer(t, nil), newGate(t), newStepServer(t, nil)
	p := newPod(t, func(c *Config) { c.MaxInFlight = 1 }, first, g.stepServer, last)
	for range 3 {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		req := p.request(ctx, strings.NewReader("x"), noLimits)
		go func() {
			_, err := p.do(req)
			done <- err
		}()
		receive(t, g.entered, "the second step's call")
		cancel()
		if err := receive(t, done, "the end of the request"); err == nil {
			t.Fatal("it was answered")
		}
		receive(t, g.gone, "the end of the step's call")
	}
	p.eventually("no chain runs", func() bool { return p.Chains() == 0 })
	if n := p.counts.gone.Load(); n != 3 || last.calls.Load() != 0 {
		t.Errorf("%d chains were cancelled, want 3; the last step was called %d times", n, last.calls.Load())
	}
	g.open <- struct{}{}
	p.post("x", noLimits).want(t, wire.Completed, 0, 0, 3, fmt.Sprintf("x>%d>gate>%d", first.port, last.port))
}

// A chain that waits for a place must not take it when nobody wants its answer.
func TestARequestThatIsCancelledWhileItWaitsCallsNothing(t *testing.T) {
	t.Parallel()
	first, g := newStepServer(t, nil), newGate(t)
	p := newPod(t, func(c *Config) { c.MaxInFlight = 1 }, first, g.stepServer)
	a := p.background("a", noLimits)
	receive(t, g.entered, "a call")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	req := p.request(ctx, strings.NewReader("b"), noLimits)
	go func() {
		_, err := p.do(req)
		done <- err
	}()
	p.eventually("one waits", func() bool { return p.steps[1].waiting.Load() == 1 })
	cancel()
	receive(t, done, "the end of the request")
	p.eventually("none waits", func() bool { return p.steps[1].waiting.Load() == 0 })
	g.open <- struct{}{}
	receive(t, a, "an answer").want(t, wire.Completed, 0, 0, 2, fmt.Sprintf("a>%d>gate", first.port))
	if g.calls.Load() != 1 {
		t.Errorf("%d calls, want 1", g.calls.Load())
	}
}

func TestARequestThatTakesLongShowsThatItRuns(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	p := newPod(t, func(c *Config) { c.KeepAlive = time.Millisecond }, g.stepServer)
	var seen atomic.Int64
	enough := make(chan struct{}, 64)
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			if code != http.StatusProcessing {
				t.Errorf("an informational %d", code)
			}
			if seen.Add(1) == 3 {
				enough <- struct{}{}
			}
			return nil
		},
	})
	done := make(chan *answer, 1)
	req := p.request(ctx, strings.NewReader("x"), noLimits)
	go func() {
		a, err := p.do(req)
		if err != nil {
			t.Error(err)
			a = new(answer)
		}
		done <- a
	}()
	receive(t, enough, "signs of life")
	g.open <- struct{}{}
	receive(t, done, "an answer").want(t, wire.Completed, 0, 0, 1, "x>gate")
}

func TestABodyThatBreaksOffHasNothingCalled(t *testing.T) {
	t.Parallel()
	step := newStepServer(t, nil)
	p := newPod(t, nil, step)
	for name, body := range map[string]string{
		"length": "content-length: 100\r\n\r\nabc",
		"chunks": "transfer-encoding: chunked\r\n\r\n5\r\nab",
	} {
		req := p.request(t.Context(), http.NoBody, noLimits)
		c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\n")
		if err := req.Header.Write(c); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, body)
		_ = c.(*net.TCPConn).CloseWrite()
		resp, err := http.ReadResponse(bufio.NewReader(c), req)
		if err == nil {
			if resp.Header.Get(wire.OutcomeHeader) != "" {
				t.Errorf("%s: it has an outcome: %v", name, resp.Header)
			}
			resp.Body.Close()
		}
		c.Close()
	}
	if step.calls.Load() != 0 {
		t.Error("the step was called")
	}
}

func TestDrainingGivesBackWhatRuns(t *testing.T) {
	t.Parallel()
	g, after := newGate(t), newStepServer(t, nil)
	p := newPod(t, nil, g.stepServer, after)
	a := p.background("x", noLimits)
	receive(t, g.entered, "a call")
	p.Drain()
	p.post("y", noLimits).want(t, wire.Busy, wire.Overload, 0, 0, "-")
	if resp := p.get(readyPath); resp.status != http.StatusServiceUnavailable {
		t.Errorf("ready: %d", resp.status)
	}
	if resp := p.get(healthPath); resp.status != http.StatusOK {
		t.Errorf("healthy: %d", resp.status)
	}
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ended <- p.server.Shutdown(ctx)
	}()
	g.open <- struct{}{}
	receive(t, a, "an answer").want(t, wire.Spilled, wire.Overload, 1, 1, "x>gate")
	if err := receive(t, ended, "the end of the server"); err != nil {
		t.Error(err)
	}
	if after.calls.Load() != 0 {
		t.Error("the step after it was called")
	}
}

func TestDrainingEndsWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	p := newPod(t, nil, g.stepServer)
	done := make(chan struct{})
	req := p.request(context.Background(), strings.NewReader("x"), noLimits)
	go func() {
		defer close(done)
		if a, err := p.do(req); err == nil && a.Kind != 0 {
			t.Errorf("it has an outcome: %+v", a.Outcome)
		}
	}()
	receive(t, g.entered, "a call")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.server.Shutdown(ctx); err == nil {
		t.Error("no error")
	}
	receive(t, g.gone, "the end of the step's call")
	receive(t, done, "the end of the request")
}

// get asks for one of the other paths.
func (p *pod) get(path string) *answer {
	p.t.Helper()
	resp, err := p.client.Get(p.url + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: string(b)}
}

func TestTheHandshakeTellsWhatASlipNeeds(t *testing.T) {
	t.Parallel()
	step := newStepServer(t, nil)
	p := newPod(t, nil, step)
	h, err := wire.ParseHandshake([]byte(p.get(wire.HandshakePath).body))
	if err != nil {
		t.Fatal(err)
	}
	if h.Pod != podUID || h.Namespace != namespace || !h.Allows(step.port) || h.Claims || h.MaxEventBytes != DefaultInline || h.Version != wire.Version {
		t.Errorf("%+v", h)
	}
	p.post("x", noLimits)
	m := p.get(metricsPath).body
	for _, want := range []string{
		`sidestep_sidecar_chains_total{outcome="completed"} 1`, "sidestep_sidecar_calls_total 1", "sidestep_sidecar_chains 0",
		fmt.Sprintf(`sidestep_sidecar_step_calls{port="%d",state="running"} 0`, step.port),
	} {
		if !strings.Contains(m, want+"\n") {
			t.Errorf("metrics without %s:\n%s", want, m)
		}
	}
	if got := p.get("/x"); got.status != http.StatusNotFound {
		t.Errorf("%d %s", got.status, got.body)
	}
	req, _ := http.NewRequest(http.MethodPut, p.url, http.NoBody)
	if got, err := p.do(req); err != nil || got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") == "" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestKeysOverlapWhileTheyAreRotated(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil, newStepServer(t, nil))
	old, _ := keyPair("dispatcher")
	next, private := keyPair("next")
	trust := func(keys ...ed25519.PublicKey) {
		if err := p.Trust(keys); err != nil {
			t.Fatal(err)
		}
	}
	kind := func() wire.Reason { return p.post("x", noLimits).Reason }
	trust(old, next)
	if r := kind(); r != 0 {
		t.Errorf("the old key, both trusted: %v", r)
	}
	trust(next)
	if r := kind(); r != wire.NotMine {
		t.Errorf("the old key, not trusted any more: %v", r)
	}
	p.signer = wire.NewSigner(private)
	if r := kind(); r != 0 {
		t.Errorf("the new key: %v", r)
	}
}
