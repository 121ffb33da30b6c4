package channel_test

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/egress"
)

// idle is n channels with a subscription each.
func idle(n int) []*channel.Channel {
	var out []*channel.Channel
	for i := range n {
		out = append(out, &channel.Channel{
			Namespace: "ns", Name: fmt.Sprintf("c%d", i), URL: fmt.Sprintf("http://c%d", i),
			Subscriptions: []*channel.Subscription{{
				UID: fmt.Sprintf("u%d", i), Namespace: "ns", Name: fmt.Sprintf("s%d", i),
				Subscriber: &egress.Target{URL: fmt.Sprintf("http://s%d", i)},
			}},
		})
	}
	return out
}

// Thousands of subscriptions that wait are thousands of stacks.
func TestASubscriptionThatWaitsHasNoGoroutine(t *testing.T) {
	const n = 200
	bubble(t, "rest", func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		synctest.Wait()
		before := runtime.NumGoroutine()
		few := func(when string) {
			t.Helper()
			synctest.Wait()
			if more := runtime.NumGoroutine() - before; more > n/20 {
				t.Errorf("%s: %d goroutines for %d subscriptions", when, more, n)
			}
		}
		w.apply(idle(n)...)
		few("before any event")
		for i := range n {
			w.step(fmt.Sprintf("http://s%d", i), accept)
			w.publish(fmt.Sprintf("c%d", i), ev("e"))
		}
		few("after an event for each")
		for i := range n {
			if got := len(w.called(fmt.Sprintf("http://s%d", i))); got != 1 {
				t.Errorf("step %d was called %d times, want once", i, got)
			}
			if lag := w.lag(fmt.Sprintf("c%d", i), fmt.Sprintf("u%d", i)); lag != 0 {
				t.Errorf("channel %d: lag %d", i, lag)
			}
		}
	})
}

// closings counts subscriptions that were closed.
type closings struct {
	backend.Backend
	closed chan string // groups
}

type closing struct {
	backend.Rester
	closed func()
}

func (c *closings) Subscribe(ctx context.Context, log, group string, o backend.Options) (backend.Subscription, error) {
	s, err := c.Backend.Subscribe(ctx, log, group, o)
	if err != nil {
		return nil, err
	}
	return &closing{s.(backend.Rester), func() { c.closed <- group }}, nil
}

func (c *closing) Close() error {
	c.closed()
	return c.Rester.Close()
}

func TestASubscriptionThatWaitsLeavesItsGroupWhenItIsRemoved(t *testing.T) {
	const n = 20
	bubble(t, "rest", func(t *testing.T) {
		closed := make(chan string, n)
		w := newWorld(t, func(c *channel.Config) { c.Backend = &closings{c.Backend, closed} })
		all := idle(n)
		w.apply(all...)
		synctest.Wait()
		w.apply(all[:n/2]...)
		synctest.Wait()
		if len(closed) != n/2 {
			t.Errorf("%d subscriptions closed after %d were removed", len(closed), n/2)
		}
		w.stop()
		close(closed)
		if got := len(slices.Compact(slices.Sorted(values(closed)))); got != n {
			t.Errorf("%d subscriptions closed in the end, want %d", got, n)
		}
	})
}

func values(c <-chan string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for s := range c {
			if !yield(s) {
				return
			}
		}
	}
}
