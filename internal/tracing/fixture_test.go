package tracing

import (
	"cmp"
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

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/colocate"
	"github.com/sidestep-dev/sidestep/colocate/sidecar"
)

func TestMain(m *testing.M) {
	// fasthttp's cleaner of idle workers sleeps to the end of its pause.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// patience is for what must happen.
const patience = time.Minute

// flow is a sequence of steps a, b, c … in channels c0, c1, c2 …
type flow struct {
	t        *testing.T
	backend  backend.Backend
	d        *channel.Dispatcher
	channels []*channel.Channel
	exporter *tracetest.InMemoryExporter
	steps    map[string]*httptest.Server

	mu   sync.Mutex
	seen map[string][]string // trace contexts that steps got
	// fail is how many times a step answers 500 before it does its work.
	fail map[string]int
}

// newFlow has a short circuit in front of each step; those with Colocated that
// follow one another share a pod with the step before.
func newFlow(t *testing.T, sampler sdk.Sampler, modes ...channel.ShortCircuit) *flow {
	f := &flow{
		t: t, backend: membackend.NewStore(membackend.Options{}).Connect(), exporter: tracetest.NewInMemoryExporter(),
		steps: map[string]*httptest.Server{}, seen: map[string][]string{}, fail: map[string]int{},
	}
	tracer := newTracer(sdk.WithSyncer(f.exporter), sdk.WithSampler(sampler))
	sender := egress.New(egress.Config{})
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	pods, err := colocate.New(colocate.Config{Key: key, Sender: sender})
	if err != nil {
		t.Fatal(err)
	}
	f.d, err = channel.New(channel.Config{
		Backend: f.backend, Sender: sender, Key: make([]byte, 32), Tracer: tracer.Engine(), Pods: pods,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for _, closing := range []error{f.d.Close(ctx), tracer.Shutdown(ctx), f.backend.Close(ctx)} {
			if closing != nil {
				t.Errorf("close: %v", closing)
			}
		}
		pods.Close()
		sender.Close()
	})
	for i, mode := range modes {
		f.add(string(rune('a'+i)), i, mode, i+1 == len(modes))
	}
	f.share(pods, key)
	if _, err := f.d.Apply(&channel.Table{Channels: f.channels}); err != nil {
		t.Fatal(err)
	}
	return f
}

// add adds a step, which answers with an event of its own and without a word of
// traces.
func (f *flow) add(name string, i int, mode channel.ShortCircuit, last bool) {
	f.t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // it is of no interest
		f.mu.Lock()
		f.seen[name] = append(f.seen[name], r.Header.Get("traceparent"))
		f.fail[name]--
		fails := f.fail[name] >= 0
		f.mu.Unlock()
		if fails {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		for k, v := range map[string]string{"specversion": "1.0", "id": "of-" + name, "source": "test", "type": name} {
			w.Header().Set("ce-"+k, v)
		}
	}))
	f.t.Cleanup(s.Close)
	f.steps[name] = s
	sub := &channel.Subscription{
		UID: name, Namespace: "ns", Name: name, Subscriber: &egress.Target{URL: s.URL},
		Policy: egress.Policy{Retry: 1, Delay: time.Millisecond, Timeout: patience},
	}
	if !last {
		sub.Reply = &channel.Destination{Channel: fmt.Sprint("ns/c", i+1)}
	}
	c := &channel.Channel{
		Namespace: "ns", Name: fmt.Sprint("c", i), URL: fmt.Sprint("http://c", i),
		ShortCircuit: mode, Subscriptions: []*channel.Subscription{sub},
	}
	f.channels = append(f.channels, c)
	if _, err := f.backend.EnsureLog(f.t.Context(), c.Log()); err != nil {
		f.t.Fatal(err)
	}
	if err := f.backend.EnsureGroup(f.t.Context(), c.Log().Name, backend.Group{Name: sub.UID}); err != nil {
		f.t.Fatal(err)
	}
}

// share puts step a, and those that may be colocated, into one pod with a sidecar.
func (f *flow) share(pods *colocate.Pods, key ed25519.PrivateKey) {
	f.t.Helper()
	m := colocate.Map{Pods: []colocate.Pod{{ID: "p", UID: "p", Namespace: "ns", Ports: map[string]uint16{}}}}
	c := sidecar.Config{Pod: "p", Namespace: "ns"}
	for i, ch := range f.channels {
		if i > 0 && ch.ShortCircuit != channel.Colocated {
			continue
		}
		name := ch.Subscriptions[0].Name
		u, err := url.Parse(f.steps[name].URL)
		if err != nil {
			f.t.Fatal(err)
		}
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil {
			f.t.Fatal(err)
		}
		m.Services = append(m.Services, colocate.Service{Name: "ns/" + name, Hosts: []string{colocate.HostOf(u.String())}})
		m.Pods[0].Ports["ns/"+name] = uint16(port)
		c.Allow = append(c.Allow, sidecar.Port{Number: uint16(port)})
	}
	s, err := sidecar.New(c)
	if err != nil {
		f.t.Fatal(err)
	}
	public, _ := key.Public().(ed25519.PublicKey)
	if err := s.Trust([]ed25519.PublicKey{public}); err != nil {
		f.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	server := sidecar.NewServer(s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	f.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			f.t.Errorf("stop the sidecar: %v", err)
		}
		<-served
		s.Close()
	})
	m.Pods[0].Sidecar = "http://" + l.Addr().String()
	if err := pods.SetMap(&m); err != nil {
		f.t.Fatal(err)
	}
	f.eventually("the pod is used", func() bool { return pods.Usable() == 1 })
}

func (f *flow) eventually(what string, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("it does not come to be: %s", what)
		}
	}
}

// run publishes an event, with a trace context or "", and waits until all is settled.
func (f *flow) run(parent string) {
	f.t.Helper()
	e := &event.Event{SpecVersion: "1.0", ID: "1", Source: "test", Type: "t", Data: []byte("data")}
	if parent != "" {
		e.Transport = []event.Attribute{{Name: "traceparent", Value: parent}}
	}
	v := f.d.Hold()
	err := f.d.Publish(f.t.Context(), v.ByName("ns", "c0"), e)
	v.Release()
	if err != nil {
		f.t.Fatal(err)
	}
	f.eventually("all is settled", func() bool {
		for _, c := range f.channels {
			l, err := f.backend.Lag(f.t.Context(), c.Log().Name, c.Subscriptions[0].UID)
			if err != nil {
				f.t.Fatal(err)
			}
			if l.Records > 0 {
				return false
			}
		}
		return true
	})
}

// tree is the spans, each behind the names of those above it, by the time at which
// they began.
func (f *flow) tree() []string {
	f.t.Helper()
	spans := f.exporter.GetSpans()
	slices.SortStableFunc(spans, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	byID := map[string]*tracetest.SpanStub{}
	for i := range spans {
		id := spans[i].SpanContext.SpanID().String()
		if byID[id] != nil {
			f.t.Errorf("%s and %s have one ID", byID[id].Name, spans[i].Name)
		}
		byID[id] = &spans[i]
	}
	var out []string
	for i := range spans {
		path := spans[i].Name
		for p := byID[spans[i].Parent.SpanID().String()]; p != nil; p = byID[p.Parent.SpanID().String()] {
			path = p.Name + " > " + path
		}
		out = append(out, cmp.Or(travelOf(&spans[i]), "-")+": "+path)
	}
	return out
}

func travelOf(s *tracetest.SpanStub) string { return valueOf(s, "sidestep.travel") }

func valueOf(s *tracetest.SpanStub, key attribute.Key) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.String()
		}
	}
	return ""
}

// span is the nth of a name.
func (f *flow) span(name string, n int) *tracetest.SpanStub {
	f.t.Helper()
	for _, s := range f.exporter.GetSpans() {
		if s.Name == name {
			if n--; n == 0 {
				return &s
			}
		}
	}
	f.t.Fatalf("no span %s:\n%s", name, strings.Join(f.tree(), "\n"))
	return nil
}

func (f *flow) contexts(step string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen[step])
}
