package channel_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
)

// world is a dispatcher on a backend in memory, with steps that are functions.
type world struct {
	t       *testing.T
	store   *membackend.Store
	backend backend.Backend
	d       *channel.Dispatcher
	pods    channel.Pods // nil: none

	mu    sync.Mutex
	steps map[string]func(*egress.Request) egress.Result // by URL
	calls []call
	ends  []channel.Ending
	hops  []channel.Travel // to steps
}

type call struct {
	url   string
	event *event.Event
	at    time.Time
}

func newWorld(t *testing.T, edit ...func(*channel.Config)) *world {
	w := &world{t: t, store: membackend.NewStore(membackend.Options{}), steps: map[string]func(*egress.Request) egress.Result{}}
	w.backend = w.store.Connect()
	w.start(edit...)
	return w
}

func (w *world) start(edit ...func(*channel.Config)) {
	w.t.Helper()
	c := channel.Config{
		Backend: w.backend, Sender: w, Observer: w, Pods: w.pods,
		Key: []byte("0123456789abcdef0123456789abcdef"),
	}
	for _, e := range edit {
		e(&c)
	}
	var err error
	if w.d, err = channel.New(c); err != nil {
		w.t.Fatal(err)
	}
}

// stop must be called before a synctest bubble ends.
func (w *world) stop() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.d.Close(ctx); err != nil {
		w.t.Errorf("close: %v", err)
	}
}

func (w *world) Send(ctx context.Context, r *egress.Request, _ egress.Format, timeout time.Duration) egress.Result {
	w.mu.Lock()
	w.calls = append(w.calls, call{r.Target.URL, r.Event, time.Now()})
	f := w.steps[r.Target.URL]
	w.mu.Unlock()
	if f == nil {
		return egress.Result{Err: fmt.Errorf("nobody listens on %s", r.Target.URL)}
	}
	return f(r)
}

func (w *world) Hop(h *channel.Hop) {
	if h.Leg != channel.ToStep {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hops = append(w.hops, h.Travel)
}

// travels is how the steps' events came to them.
func (w *world) travels() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, t := range w.hops {
		out = append(out, t.String())
	}
	return strings.Join(out, " ")
}

func (w *world) End(e *channel.End) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends = append(w.ends, e.Ending)
}

func (w *world) step(url string, f func(*egress.Request) egress.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps[url] = f
}

func (w *world) called(url string) []call {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []call
	for _, c := range w.calls {
		if c.url == url {
			out = append(out, c)
		}
	}
	return out
}

func (w *world) endings() []channel.Ending {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.ends)
}

// apply makes logs and groups, and applies the table.
func (w *world) apply(channels ...*channel.Channel) uint64 {
	w.t.Helper()
	ctx := w.t.Context()
	for _, c := range channels {
		if _, err := w.backend.EnsureLog(ctx, c.Log()); err != nil {
			w.t.Fatal(err)
		}
		for _, s := range c.Subscriptions {
			if err := w.backend.EnsureGroup(ctx, c.Log().Name, backend.Group{Name: s.UID}); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	epoch, err := w.d.Apply(&channel.Table{Channels: channels})
	if err != nil {
		w.t.Fatal(err)
	}
	return epoch
}

func (w *world) publish(name string, e *event.Event) {
	w.t.Helper()
	v := w.d.Hold()
	defer v.Release()
	c := v.ByName("ns", name)
	if c == nil {
		w.t.Fatalf("no channel ns/%s", name)
	}
	if err := w.d.Publish(w.t.Context(), c, e); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) lag(name, uid string) int64 {
	w.t.Helper()
	l, err := w.backend.Lag(w.t.Context(), "ns/"+name, uid)
	if err != nil {
		w.t.Fatal(err)
	}
	return l.Records
}

func ev(id string) *event.Event {
	return &event.Event{SpecVersion: "1.0", ID: id, Source: "test", Type: "t", Data: []byte("data of " + id)}
}

// sequence is n steps at http://s0, http://s1 … in channels c0, c1 …
func sequence(n int, mode channel.ShortCircuit, edit func(i int, s *channel.Subscription)) []*channel.Channel {
	var out []*channel.Channel
	for i := range n {
		s := &channel.Subscription{
			UID: fmt.Sprintf("u%d", i), Namespace: "ns", Name: fmt.Sprintf("seq-%d", i),
			Subscriber: &egress.Target{URL: fmt.Sprintf("http://s%d", i)},
		}
		if i+1 < n {
			s.Reply = &channel.Destination{Channel: fmt.Sprintf("ns/c%d", i+1)}
		}
		if edit != nil {
			edit(i, s)
		}
		out = append(out, &channel.Channel{
			Namespace: "ns", Name: fmt.Sprintf("c%d", i), URL: fmt.Sprintf("http://c%d", i),
			ShortCircuit: mode, Subscriptions: []*channel.Subscription{s},
		})
	}
	return out
}

func reply(f func(in *event.Event) *event.Event) func(*egress.Request) egress.Result {
	return func(r *egress.Request) egress.Result {
		return egress.Result{Status: 200, Reply: f(r.Event)}
	}
}

// passOn answers with an event that says which step it comes from.
func passOn(step int) func(*egress.Request) egress.Result {
	return reply(func(in *event.Event) *event.Event {
		out := *in
		out.Type = fmt.Sprintf("%s>%d", in.Type, step)
		return &out
	})
}

func status(code int, body string) func(*egress.Request) egress.Result {
	return func(*egress.Request) egress.Result {
		return egress.Result{Status: code, Body: []byte(body), Err: fmt.Errorf("%w: status %d", egress.ErrStatus, code)}
	}
}

func accept(*egress.Request) egress.Result { return egress.Result{Status: 202} }
