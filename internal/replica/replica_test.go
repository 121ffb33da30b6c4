package replica

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/channel/ingress"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// One sleeps for 10 s before it sees that its server has ended, the
		// other keeps the date for the process.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// guard is how long a test waits for what must come.
const guard = 30 * time.Second

func config(t *testing.T) (Config, Engine) {
	t.Helper()
	b := membackend.New(membackend.Options{})
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	return Config{Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Drain: guard}, Engine{Backend: b, Key: []byte("0123456789abcdef")}
}

// open is a replica with its engine; it is closed when that cannot be made.
func open(c Config, e Engine) (*Replica, error) {
	r, err := New(c)
	if err != nil {
		return nil, err
	}
	if err := r.Open(e); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// serve runs a replica with channel n/c, whose events go to a subscriber, until stop
// is called.
func serve(t *testing.T, c Config, e Engine, subscriber string) (r *Replica, stop context.CancelFunc, done <-chan error) {
	t.Helper()
	r, err := open(c, e)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), guard)
	defer cancel()
	if _, err := e.Backend.EnsureLog(ctx, backend.Log{Name: "n/c"}); err != nil {
		t.Fatal(err)
	}
	if err := e.Backend.EnsureGroup(ctx, "n/c", backend.Group{Name: "u"}); err != nil {
		t.Fatal(err)
	}
	_, err = r.Dispatcher.Apply(&channel.Table{Channels: []*channel.Channel{{
		Namespace: "n", Name: "c",
		Subscriptions: []*channel.Subscription{{UID: "u", Namespace: "n", Name: "s", Subscriber: &egress.Target{URL: subscriber}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- errors.Join(r.Serve(serving, Life{Handlers: map[string]http.Handler{
			"/more": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "more") }),
		}}), r.Close())
	}()
	t.Cleanup(func() {
		stop()
		http.DefaultClient.CloseIdleConnections()
	})
	return r, stop, ended
}

// post sends an event to n/c.
func post(t *testing.T, client *http.Client, base string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, base+"/n/c", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"Ce-Id": "1", "Ce-Type": "t", "Ce-Source": "s", "Ce-Specversion": "1.0"} {
		req.Header.Set(k, v)
	}
	return status(t, client, req)
}

func status(t *testing.T, client *http.Client, req *http.Request) int {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func get(t *testing.T, url string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return status(t, http.DefaultClient, req)
}

func TestAReplicaThatIsToldToStopServesOnAndFinishesWhatItHas(t *testing.T) {
	release := make(chan struct{})
	var delivered atomic.Int32
	sub := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		<-release
		delivered.Add(1)
	}))
	defer sub.Close()
	c, e := config(t)
	c.Linger = 2 * time.Second
	r, stop, done := serve(t, c, e, sub.URL)
	events, _, admin := r.Addresses()
	events, admin = "http://"+events, "http://"+admin
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/more": 200, "/debug/pprof/": 404} {
		if got := get(t, admin+path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	if got := post(t, http.DefaultClient, events); got != http.StatusAccepted {
		t.Fatalf("answered %d", got)
	}
	stop()
	for end := time.Now().Add(guard); get(t, admin+"/readyz") != http.StatusServiceUnavailable; {
		if time.Now().After(end) {
			t.Fatal("it is ready, and was told to stop")
		}
	}
	// Who has not learned of it yet is served.
	if got := post(t, http.DefaultClient, events); got != http.StatusAccepted {
		t.Errorf("while it lingers: answered %d", got)
	}
	select {
	case err := <-done:
		t.Fatalf("it has ended with events under way: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(guard):
		t.Fatal("it does not end")
	}
	if n := delivered.Load(); n != 2 {
		t.Errorf("%d events were delivered of the 2 that it had", n)
	}
}

func TestTheTwoDoorsHaveAGateEach(t *testing.T) {
	sub := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer sub.Close() // its certificate is used for the replica
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer plain.Close()
	c, e := config(t)
	c.ListenTLS, c.TLS = "127.0.0.1:0", &tls.Config{Certificates: sub.TLS.Certificates, MinVersion: tls.VersionTLS13}
	e.Admit = func(context.Context, *channel.Channel, string) (func(*event.Event) error, error) {
		return nil, ingress.Refuse(http.StatusNotFound, "not here")
	}
	r, stop, done := serve(t, c, e, plain.URL)
	events, secure, _ := r.Addresses()
	if got := post(t, http.DefaultClient, "http://"+events); got != http.StatusNotFound {
		t.Errorf("plain: %d", got)
	}
	client := sub.Client()
	if got := post(t, client, "https://"+secure); got != http.StatusAccepted {
		t.Errorf("TLS: %d", got)
	}
	client.CloseIdleConnections()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAReplicaSaysWhatItWants(t *testing.T) {
	tests := []struct {
		change func(*Config, *Engine)
		want   string
	}{
		{func(_ *Config, e *Engine) { e.Backend = nil }, "no backend"},
		{func(_ *Config, e *Engine) { e.Links = http.NotFoundHandler() }, "claims and links go together"},
		{func(_ *Config, e *Engine) { e.SlipKey = ed25519.PrivateKey("short") }, "the key has 5 bytes"},
		{func(_ *Config, e *Engine) { e.Key = nil }, "key has 0 bytes"},
		{func(c *Config, _ *Engine) { c.Admin = "" }, "an address to listen on is empty"},
		{func(c *Config, _ *Engine) { c.ListenTLS = "127.0.0.1:0" }, "no certificate"},
		{func(c *Config, _ *Engine) { c.Drain = -1 }, "want 0s or more"},
		{func(c *Config, _ *Engine) { c.Listen = "256.0.0.1:1" }, "listen for events"},
	}
	for _, tt := range tests {
		c, e := config(t)
		tt.change(&c, &e)
		if _, err := open(c, e); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}

func TestReadyzIs503BeforeAndAfterServing(t *testing.T) {
	c, e := config(t)
	r, err := open(c, e)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var why error
	h := r.adminHandler(func() error { return why }, nil)
	want := func(path string, status int, text string) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if got := strings.TrimSpace(w.Body.String()); w.Code != status || got != text {
			t.Errorf("%s: got %d %q, want %d %q", path, w.Code, got, status, text)
		}
	}
	want("/readyz", 503, "starting")
	want("/healthz", 200, "ok")
	r.ready.begun.Store(true)
	want("/readyz", 200, "ok")
	why = errors.New("not just now")
	want("/readyz", 503, "not just now")
	r.ready.stopping.Store(true)
	want("/readyz", 503, "stopping")
	want("/healthz", 200, "ok")
}

// What is needed before events are taken comes first, and what runs beside ends last.
func TestALifeHasItsOrder(t *testing.T) {
	c, e := config(t)
	r, err := open(c, e)
	if err != nil {
		t.Fatal(err)
	}
	events, _, _ := r.Addresses()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var order []string
	err = r.Serve(ctx, Life{
		Begin: func(context.Context) error { order = append(order, "begin"); return nil },
		Run: []func(context.Context){func(ctx context.Context) {
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), channel.ErrStopped) {
				t.Errorf("it ended as %v", context.Cause(ctx))
			}
			if _, err := r.Dispatcher.Apply(new(channel.Table)); !errors.Is(err, channel.ErrStopped) {
				t.Errorf("what runs beside the engine was told to stop before it: %v", err)
			}
			order = append(order, "run")
		}},
		Begun: func() error {
			order = append(order, "begun")
			if got := post(t, http.DefaultClient, "http://"+events); got != http.StatusNotFound {
				t.Errorf("it has begun and answers %d", got)
			}
			http.DefaultClient.CloseIdleConnections()
			stop()
			return nil
		},
	})
	if err := errors.Join(err, r.Close()); err != nil {
		t.Error(err)
	}
	if got := strings.Join(order, " "); got != "begin begun run" {
		t.Errorf("the order was %s", got)
	}
}

func TestAStartThatFailsIsAnErrorUnlessItWasCalledOff(t *testing.T) {
	for _, calledOff := range []bool{false, true} {
		c, e := config(t)
		r, err := open(c, e)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		broken := errors.New("broken")
		err = r.Serve(ctx, Life{
			Begin: func(context.Context) error {
				if calledOff {
					stop()
				}
				return broken
			},
			Begun: func() error { t.Error("it has begun"); return nil },
		})
		stop()
		if calledOff && err != nil || !calledOff && !errors.Is(err, broken) {
			t.Errorf("called off %v: got %v", calledOff, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}
