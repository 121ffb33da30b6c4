package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/natsbackend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

// TestTwoDispatchersDoNotBreakTheOrderOfAKey: promise P10. Two dispatchers on
// one external JetStream run a flow of two PerKey channels; the connection of
// the one that leads is cut in the middle, and the other takes over.
func TestTwoDispatchersDoNotBreakTheOrderOfAKey(t *testing.T) {
	t.Parallel()
	const keys, each = 5, 60
	broker := brokertest.Start(t)
	w := &orderWatch{first: map[string][]int{}}
	a := newReplica(t, broker, w)
	b := newReplica(t, broker, w)
	table := perKeyTable()
	a.ensure(t, table)
	for _, r := range []*replica{a, b} {
		if _, err := r.d.Apply(perKeyTable()); err != nil {
			t.Fatal(err)
		}
	}
	for n := range each {
		for k := range keys {
			b.publish(t, fmt.Sprint("key", k), n)
		}
		if n == each/3 {
			await(t, "half of these to arrive", func() bool { return w.arrived() > n*keys/2 })
			if leader := w.leads(); leader == a {
				a.proxy.Cut()
			} else {
				// The one that publishes leads: what it holds must come
				// back to it, or go to the other, in order.
				b.proxy.Cut()
				time.AfterFunc(testAckWait, b.proxy.Mend)
			}
		}
	}
	await(t, "every event to arrive", func() bool { return w.arrived() == keys*each })
	w.check(t, each)
}

const testAckWait = 2 * time.Second

// replica is a dispatcher with a connection of its own.
type replica struct {
	proxy   *brokertest.Proxy
	backend *natsbackend.Backend
	d       *channel.Dispatcher
}

func newReplica(t *testing.T, broker *brokertest.Broker, w *orderWatch) *replica {
	t.Helper()
	r := &replica{proxy: brokertest.StartProxy(t, broker.Address)}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var err error
	r.backend, err = natsbackend.Connect(ctx, natsbackend.Config{
		URL: "nats://" + r.proxy.Address(), AckWait: testAckWait,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.d, err = channel.New(channel.Config{
		Backend: r.backend, Sender: &orderSender{w: w, r: r}, Key: []byte("the same for both of them"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.proxy.Mend()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(r.d.Close(ctx), r.backend.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	return r
}

// perKeyTable is two steps, one after the other.
func perKeyTable() *channel.Table {
	sub := func(n int) *channel.Subscription {
		return &channel.Subscription{
			UID: fmt.Sprint("u", n), Namespace: "ns", Name: fmt.Sprint("s", n),
			Subscriber: &egress.Target{URL: fmt.Sprint("http://step", n)},
			Policy:     egress.Policy{Retry: 100, Delay: 50 * time.Millisecond},
		}
	}
	first, second := sub(0), sub(1)
	first.Reply = &channel.Destination{Channel: "ns/c1"}
	return &channel.Table{Channels: []*channel.Channel{
		{Namespace: "ns", Name: "c0", Ordered: true, ShortCircuit: channel.Always, Subscriptions: []*channel.Subscription{first}},
		{Namespace: "ns", Name: "c1", Ordered: true, ShortCircuit: channel.Always, Subscriptions: []*channel.Subscription{second}},
	}}
}

func (r *replica) ensure(t *testing.T, table *channel.Table) {
	t.Helper()
	for _, c := range table.Channels {
		if _, err := r.backend.EnsureLog(t.Context(), c.Log()); err != nil {
			t.Fatal(err)
		}
		for _, s := range c.Subscriptions {
			if err := r.backend.EnsureGroup(t.Context(), c.Log().Name, backend.Group{Name: s.UID}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// publish tries until the event is accepted: the order in which events of a key
// are accepted is the log's.
func (r *replica) publish(t *testing.T, key string, n int) {
	t.Helper()
	e := &event.Event{SpecVersion: "1.0", ID: fmt.Sprint(n), Source: key, Type: "t"}
	e = e.With(event.Attribute{Name: "partitionkey", Value: key})
	await(t, "an event to be accepted", func() bool {
		v := r.d.Hold()
		defer v.Release()
		return r.d.Publish(t.Context(), v.ByName("ns", "c0"), e) == nil
	})
}

// orderSender is the steps, as one dispatcher reaches them.
type orderSender struct {
	w *orderWatch
	r *replica
}

func (s *orderSender) Send(_ context.Context, q *egress.Request, _ egress.Format, _ time.Duration) egress.Result {
	s.w.see(s.r, q.Target.URL, q.Event)
	time.Sleep(rand.N(3 * time.Millisecond)) // the step's work
	if q.Target.URL == "http://step0" {
		return egress.Result{Status: 200, Reply: q.Event}
	}
	return egress.Result{Status: 202}
}

// orderWatch notes what reaches the steps.
type orderWatch struct {
	mu     sync.Mutex
	leader *replica
	first  map[string][]int // by step and key: the events, when they came first
	faults []string
}

func (w *orderWatch) see(r *replica, step string, e *event.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leader = r
	var n int
	if _, err := fmt.Sscan(e.ID, &n); err != nil {
		w.faults = append(w.faults, "an event that nobody published: "+e.ID)
		return
	}
	key := step + " " + e.Source
	if seen := w.first[key]; n >= len(seen) {
		if n > len(seen) {
			w.faults = append(w.faults, fmt.Sprintf("%s: %d came first, and %d had not come", key, n, len(seen)))
		}
		w.first[key] = append(seen, n)
	}
}

func (w *orderWatch) leads() *replica {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leader
}

// arrived counts the events that reached the last step.
func (w *orderWatch) arrived() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, seen := range w.first {
		if key[:len("http://step1")] == "http://step1" {
			n += len(seen)
		}
	}
	return n
}

func (w *orderWatch) check(t *testing.T, each int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.faults {
		t.Error(f)
	}
	for key, seen := range w.first {
		if len(seen) != each {
			t.Errorf("%s: %d events, want %d", key, len(seen), each)
		}
	}
}
