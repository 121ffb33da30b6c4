package colocate

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/colocate/sidecar"
)

func TestMain(m *testing.M) {
	// fasthttp's cleaner of idle workers, in a sidecar that was stopped, sleeps to
	// the end of its pause.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// patience is for what must happen.
const patience = time.Minute

var slipKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// step is a server that passes events on, and remembers what it got.
type step struct {
	*httptest.Server
	name string
	port uint16
	mu   sync.Mutex
	got  []*http.Request
	// answer is asked before the event is passed on; 0: it is.
	answer func(n int, r *http.Request) int
}

func newStep(t *testing.T, name string) *step {
	s := &step{name: name}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	s.port = uint16(port)
	return s
}

func (s *step) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.got = append(s.got, r)
	n, answer := len(s.got), s.answer
	s.mu.Unlock()
	if answer != nil {
		if status := answer(n, r); status != 0 {
			w.WriteHeader(status)
			io.WriteString(w, "no") //nolint:errcheck // the client may have seen enough
			return
		}
	}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "Ce-") {
			w.Header()[name] = values
		}
	}
	w.Header().Set("ce-type", r.Header.Get("ce-type")+">"+s.name)
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	w.Write(body) //nolint:errcheck // the client may have seen enough
}

func (s *step) calls() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// localPod is a sidecar beside steps.
type localPod struct {
	id  string
	url string
	*sidecar.Sidecar
	server *sidecar.Server
	served chan error
	once   sync.Once
}

func startPod(t testing.TB, id string, configure func(*sidecar.Config), steps ...*step) *localPod {
	t.Helper()
	c := sidecar.Config{Pod: id, Namespace: "ns"}
	for _, s := range steps {
		c.Allow = append(c.Allow, sidecar.Port{Number: s.port})
	}
	if configure != nil {
		configure(&c)
	}
	s, err := sidecar.New(c)
	if err != nil {
		t.Fatal(err)
	}
	public, _ := slipKey.Public().(ed25519.PublicKey)
	if err := s.Trust([]ed25519.PublicKey{public}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &localPod{id: id, url: "http://" + l.Addr().String(), Sidecar: s, server: sidecar.NewServer(s), served: make(chan error, 1)}
	go func() { p.served <- p.server.Serve(l) }()
	t.Cleanup(func() { p.stop(context.Background()) })
	return p
}

// stop ends the sidecar; with a context that has ended, at once.
func (p *localPod) stop(ctx context.Context) {
	p.once.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		p.server.Shutdown(ctx) //nolint:errcheck // it is cut if it must
		<-p.served
		p.Close()
	})
}

// town is a dispatcher, a sequence of steps, and pods.
type town struct {
	t       *testing.T
	backend backend.Backend
	client  *egress.Client
	pods    *Pods
	d       *channel.Dispatcher
	steps   []*step
	m       Map
	seq     []*channel.Channel

	mu   sync.Mutex
	hops []string
	ends []string
}

func newTown(t *testing.T, names ...string) *town {
	w := &town{t: t, backend: membackend.NewStore(membackend.Options{}).Connect(), client: egress.New(egress.Config{})}
	var err error
	if w.pods, err = New(Config{Key: slipKey, Sender: w.client}); err != nil {
		t.Fatal(err)
	}
	w.force(w.pods)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := w.d.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		w.pods.Close()
		w.client.Close()
		if err := w.backend.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	for i, name := range names {
		s := newStep(t, name)
		w.steps = append(w.steps, s)
		w.m.Services = append(w.m.Services, Service{Name: "ns/" + name, Hosts: []string{HostOf(s.URL)}})
		sub := &channel.Subscription{
			UID: "u" + name, Namespace: "ns", Name: name, Subscriber: &egress.Target{URL: s.URL + "/" + name + "?q=1"},
			Policy: egress.Policy{Timeout: patience},
		}
		if i+1 < len(names) {
			sub.Reply = &channel.Destination{Channel: fmt.Sprint("ns/c", i+1)}
		}
		w.seq = append(w.seq, &channel.Channel{
			Namespace: "ns", Name: fmt.Sprint("c", i), URL: fmt.Sprint("http://c", i), Subscriptions: []*channel.Subscription{sub},
		})
	}
	return w
}

// force has chains run by others than the town's Pods. It comes before apply.
func (w *town) force(pods channel.Pods) {
	w.t.Helper()
	if w.d != nil {
		if err := w.d.Close(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
	var err error
	w.d, err = channel.New(channel.Config{Backend: w.backend, Sender: w.client, Pods: pods, Observer: w, Key: make([]byte, 32)})
	if err != nil {
		w.t.Fatal(err)
	}
}

// pod adds a pod with steps of other servers, by the names of the town's.
func (w *town) pod(id string, configure func(*sidecar.Config), steps ...*step) *localPod {
	w.t.Helper()
	p := startPod(w.t, id, configure, steps...)
	ports := make(map[string]uint16)
	for _, s := range steps {
		ports["ns/"+s.name] = s.port
	}
	w.m.Pods = append(w.m.Pods, Pod{ID: id, UID: id, Namespace: "ns", Sidecar: p.url, Ports: ports})
	return p
}

// apply starts it all. want are the pods that must come to be used.
func (w *town) apply(want ...string) {
	w.t.Helper()
	for _, c := range w.seq {
		if _, err := w.backend.EnsureLog(w.t.Context(), c.Log()); err != nil {
			w.t.Fatal(err)
		}
		for _, s := range c.Subscriptions {
			if err := w.backend.EnsureGroup(w.t.Context(), c.Log().Name, backend.Group{Name: s.UID}); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	if err := w.pods.SetMap(&w.m); err != nil {
		w.t.Fatal(err)
	}
	w.eventually("the pods are used", func() bool { return fmt.Sprint(w.usable()) == fmt.Sprint(want) })
	if _, err := w.d.Apply(&channel.Table{Channels: w.seq}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *town) usable() []string {
	w.pods.mu.Lock()
	defer w.pods.mu.Unlock()
	var ids []string
	for id, p := range w.pods.pods {
		if p.usable.Load() != nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (w *town) eventually(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("it does not come to be: %s", what)
		}
	}
}

func (w *town) publish(e *event.Event) {
	w.t.Helper()
	v := w.d.Hold()
	defer v.Release()
	if err := w.d.Publish(w.t.Context(), v.ByName("ns", "c0"), e); err != nil {
		w.t.Fatal(err)
	}
}

// settled waits until nothing is left in any channel.
func (w *town) settled() {
	w.t.Helper()
	w.eventually("all is settled", func() bool {
		for _, c := range w.seq {
			for _, s := range c.Subscriptions {
				l, err := w.backend.Lag(w.t.Context(), c.Log().Name, s.UID)
				if err != nil {
					w.t.Fatal(err)
				}
				if l.Records > 0 {
					return false
				}
			}
		}
		return true
	})
}

// Hop notes calls of steps: pod, travel and status.
func (w *town) Hop(h *channel.Hop) {
	w.mu.Lock()
	defer w.mu.Unlock()
	where := h.Pod
	if where == "" {
		where = "plain"
	}
	line := fmt.Sprint(h.Leg, " ", h.Subscription.Name, " ", where, " ", h.Travel, " ", h.Result.Status)
	if h.Spilled != channel.NoSpill {
		line += " after " + h.Spilled.String()
	}
	w.hops = append(w.hops, line)
}

func (w *town) End(e *channel.End) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends = append(w.ends, e.Ending.String())
}

// story is what happened, and forgets it.
func (w *town) story() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := strings.Join(w.hops, "; ") + ": " + strings.Join(w.ends, " ")
	w.hops, w.ends = nil, nil
	return s
}

func ev(id string) *event.Event {
	return &event.Event{
		SpecVersion: "1.0", ID: id, Source: "test", Type: "t", DataContentType: "text/plain", Data: []byte("data of " + id),
		Attributes: []event.Attribute{{Name: "foo", Value: "bär"}},
		Transport:  []event.Attribute{{Name: "traceparent", Value: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}},
	}
}
