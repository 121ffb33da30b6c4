package ingress_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/faultbackend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/ingress"
	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/faultstore"
	"github.com/sidestep-dev/sidestep/internal/budget"
)

const (
	// patience is for what must happen; what must not is not waited for.
	patience = 20 * time.Second

	limit = 4096 // bytes of an event
	host  = "a-kn-channel.ns.svc.cluster.local"
	group = "uid-of-a"
)

// fixture is ingress before a dispatcher. Channel ns/a has one group, which
// nobody reads unless a test subscribes: what was accepted can be counted.
type fixture struct {
	t          testing.TB
	memory     *membackend.Backend
	faults     *faultbackend.Backend
	dispatcher *channel.Dispatcher
	budget     *budget.Budget
	handler    *ingress.Handler
	url        string // "" unless serve was called

	// Of setup.payloads.
	payloads *faultstore.Store
	room     *claimcheck.Checkroom

	mu       sync.Mutex
	statuses []int // as Observe was told them
}

// setup may be changed before a fixture is made of it.
type setup struct {
	store membackend.Options
	wrap  func(backend.Backend) backend.Backend // around the faults
	bytes int64
	// payloads has data beyond threshold go to a store.
	payloads bool
}

func newFixture(t testing.TB, edit ...func(*setup)) *fixture {
	t.Helper()
	s := setup{bytes: 1 << 20, wrap: func(b backend.Backend) backend.Backend { return b }}
	for _, e := range edit {
		e(&s)
	}
	f := &fixture{t: t, memory: membackend.New(s.store), budget: budget.New(s.bytes)}
	f.faults = faultbackend.New(f.memory, nil)
	var claims *channel.Claims
	if s.payloads {
		claims = f.openPayloads()
	}
	config := egress.Config{}
	if claims != nil {
		config.Payloads = claims
	}
	sender := egress.New(config)
	d, err := channel.New(channel.Config{
		Backend: s.wrap(f.faults), Sender: sender, Budget: f.budget, Claims: claims,
		Key: []byte("0123456789abcdef0123456789abcdef"),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.dispatcher = d
	f.handler = &ingress.Handler{Dispatcher: d, Budget: f.budget, MaxEventBytes: limit, Observe: f.observe}
	if claims != nil {
		f.handler.Payloads, f.handler.MaxBodyBytes = claims, mostStructured
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := d.Close(ctx); err != nil {
			t.Errorf("close dispatcher: %v", err)
		}
		sender.Close()
	})
	f.makeGroup("ns/a", group)
	f.apply(aChannel(), goneChannel())
	return f
}

func aChannel() *channel.Channel {
	return &channel.Channel{Namespace: "ns", Name: "a", Hosts: []string{host}}
}

// goneChannel was removed and has yet to be drained.
func goneChannel() *channel.Channel {
	return &channel.Channel{
		Namespace: "ns", Name: "gone", Hosts: []string{"gone-kn-channel.ns.svc.cluster.local"}, Draining: true,
	}
}

// serve starts an HTTP server: a Server, or net/http's (see onNetHTTP). Its end
// comes before the dispatcher's.
func (f *fixture) serve() *fixture {
	f.t.Helper()
	if onNetHTTP() {
		s := httptest.NewServer(f.handler)
		f.t.Cleanup(s.Close)
		f.url = s.URL
		return f
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	s := ingress.NewServer(f.handler, nil)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	f.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-done); err != nil {
			f.t.Errorf("stop serving: %v", err)
		}
	})
	f.url = "http://" + l.Addr().String()
	return f
}

func (f *fixture) observe(_ *channel.Channel, status, _ int, _ time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.statuses = append(f.statuses, status)
}

// observed waits until so many requests were answered, and returns the statuses.
func (f *fixture) observed(n int) []int {
	f.t.Helper()
	var seen []int
	f.eventually("requests to be answered", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		seen = f.statuses
		return len(seen) >= n
	})
	return seen
}

func (f *fixture) eventually(what string, ok func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

func (f *fixture) makeGroup(log, group string) {
	f.t.Helper()
	if _, err := f.memory.EnsureLog(context.Background(), backend.Log{Name: log}); err != nil {
		f.t.Fatal(err)
	}
	if err := f.memory.EnsureGroup(context.Background(), log, backend.Group{Name: group}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) apply(channels ...*channel.Channel) uint64 {
	f.t.Helper()
	epoch, err := f.dispatcher.Apply(&channel.Table{Channels: channels})
	if err != nil {
		f.t.Fatal(err)
	}
	return epoch
}

// wantStored checks how many events are in channel ns/a's log.
func (f *fixture) wantStored(n int64) {
	f.t.Helper()
	lag, err := f.memory.Lag(context.Background(), "ns/a", group)
	if err != nil {
		f.t.Fatal(err)
	}
	if lag.Records != n {
		f.t.Errorf("%d events were stored, want %d", lag.Records, n)
	}
}

// wantBudgetFree: what requests took, they gave back.
func (f *fixture) wantBudgetFree() {
	f.t.Helper()
	f.eventually("the budget to be free again", func() bool { return f.budget.Used() == 0 })
}

// request is a valid event in binary mode, posted by path, unless edited.
func request(ctx context.Context, base, body string, edit func(*http.Request)) *http.Request {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/ns/a", strings.NewReader(body))
	if err != nil {
		panic(err) // the test's own URL
	}
	r.Header = http.Header{
		"Content-Type":   {"text/plain"},
		"Ce-Specversion": {"1.0"},
		"Ce-Id":          {"1"},
		"Ce-Source":      {"/source"},
		"Ce-Type":        {"type"},
	}
	if edit != nil {
		edit(r)
	}
	return r
}

// answer is a response that was read.
type answer struct {
	status int
	header http.Header
	text   string
}

func read(t testing.TB, res *http.Response) answer {
	t.Helper()
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, strings.TrimSpace(string(b))}
}

// post sends a request to the server.
func (f *fixture) post(body string, edit func(*http.Request)) answer {
	f.t.Helper()
	res, err := client.Do(request(context.Background(), f.url, body, edit))
	if err != nil {
		f.t.Fatal(err)
	}
	return read(f.t, res)
}

// call runs a request in this goroutine, without a network: it works within a
// testing/synctest bubble.
func (f *fixture) call(ctx context.Context, body string) answer {
	f.t.Helper()
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, request(ctx, "http://ingress", body, nil))
	return read(f.t, w.Result())
}

func (a answer) want(t testing.TB, status int, retryAfter string, text ...string) {
	t.Helper()
	if a.status != status {
		t.Fatalf("got status %d, %q; want %d", a.status, a.text, status)
	}
	if got := a.header.Get("Retry-After"); got != retryAfter {
		t.Errorf("got Retry-After %q, want %q", got, retryAfter)
	}
	for _, s := range text {
		if !strings.Contains(a.text, s) {
			t.Errorf("the body %q does not say %q", a.text, s)
		}
	}
}
