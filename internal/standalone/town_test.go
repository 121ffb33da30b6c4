package standalone

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend/faultbackend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/internal/telemetry"
)

// town is a lifecycle on a backend in memory, in simulated time, with steps
// that are functions. It must be made within a synctest bubble.
type town struct {
	t       *testing.T
	dir     string
	backend *faultbackend.Backend
	d       *channel.Dispatcher
	l       *lifecycle
	logs    *logbook
	stop    context.CancelFunc
	ended   sync.WaitGroup

	mu    sync.Mutex
	steps map[string]func(*egress.Request) egress.Result // by URL
	calls map[string]int
}

const drainTime = 30 * time.Second

func newTown(t *testing.T) *town {
	t.Helper()
	w := &town{
		t: t, dir: t.TempDir(), logs: new(logbook),
		backend: faultbackend.New(membackend.New(membackend.Options{}), nil),
		steps:   map[string]func(*egress.Request) egress.Result{},
		calls:   map[string]int{},
	}
	st, err := openState(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	w.d, err = channel.New(channel.Config{Backend: w.backend, Sender: w, Key: st.Key})
	if err != nil {
		t.Fatal(err)
	}
	w.l = &lifecycle{
		backend: w.backend, dispatcher: w.d, logger: slog.New(w.logs), state: st, discarded: telemetry.NewDiscarded(),
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.ended.Go(func() { w.l.run(ctx) })
	t.Cleanup(func() {
		stop()
		w.ended.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := w.d.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

// Send implements egress.Sender.
func (w *town) Send(_ context.Context, r *egress.Request, _ egress.Format, _ time.Duration) egress.Result {
	w.mu.Lock()
	w.calls[r.Target.URL]++
	f := w.steps[r.Target.URL]
	w.mu.Unlock()
	if f == nil {
		return egress.Result{Status: 200, Reply: r.Event}
	}
	return f(r)
}

func (w *town) step(url string, f func(*egress.Request) egress.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps[url] = f
}

func (w *town) called(url string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[url]
}

// apply has the channels be what is wanted.
func (w *town) apply(channels ...*channel.Channel) error {
	return w.l.apply(w.t.Context(), drainTime, func(func(string, string, string) string) (*channel.Table, error) {
		return &channel.Table{Channels: channels}, nil
	})
}

func (w *town) mustApply(channels ...*channel.Channel) {
	w.t.Helper()
	if err := w.apply(channels...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *town) publish(name, id string) {
	w.t.Helper()
	v := w.d.Hold()
	defer v.Release()
	c := v.ByName("ns", name)
	if c == nil {
		w.t.Fatalf("no channel ns/%s", name)
	}
	e := &event.Event{SpecVersion: "1.0", ID: id, Source: "s", Type: "t"}
	if err := w.d.Publish(w.t.Context(), c, e); err != nil {
		w.t.Fatal(err)
	}
}

// exists tells whether a group has a position in a log.
func (w *town) exists(log, uid string) bool {
	_, err := w.backend.Lag(context.Background(), log, uid)
	return err == nil
}

// deadlines is a copy of the state's.
func (w *town) deadlines() map[string]time.Time {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	return maps.Clone(w.l.state.Deadlines)
}

// after lets simulated time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// line is n steps in channels c0, c1 …, each of which replies to the next.
func line(n int, mode channel.ShortCircuit) []*channel.Channel {
	var out []*channel.Channel
	for i := range n {
		s := &channel.Subscription{
			UID: fmt.Sprintf("u%d", i), Namespace: "ns", Name: fmt.Sprintf("s%d", i),
			Subscriber: &egress.Target{URL: fmt.Sprintf("http://s%d", i)},
		}
		if i+1 < n {
			s.Reply = &channel.Destination{Channel: fmt.Sprintf("ns/c%d", i+1)}
		}
		out = append(out, &channel.Channel{
			Namespace: "ns", Name: fmt.Sprintf("c%d", i), ShortCircuit: mode,
			Hosts:         []string{fmt.Sprintf("c%d.ns", i)},
			Subscriptions: []*channel.Subscription{s},
		})
	}
	return out
}

// slow is a step that takes its time.
func slow(d time.Duration) func(*egress.Request) egress.Result {
	return func(r *egress.Request) egress.Result {
		time.Sleep(d)
		return egress.Result{Status: 200, Reply: r.Event}
	}
}
