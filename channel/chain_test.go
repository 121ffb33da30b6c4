package channel_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
)

func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestAnEventGoesThroughEveryStepInOrder(t *testing.T) {
	for _, mode := range []channel.ShortCircuit{channel.Never, channel.Always, channel.Colocated} {
		bubble(t, fmt.Sprint(mode), func(t *testing.T) {
			w := newWorld(t)
			defer w.stop()
			for i := range 4 {
				w.step(fmt.Sprintf("http://s%d", i), passOn(i))
			}
			w.apply(sequence(4, mode, nil)...)
			w.publish("c0", ev("1"))
			synctest.Wait()
			last := w.called("http://s3")
			if len(last) != 1 || last[0].event.Type != "t>0>1>2" || string(last[0].event.Data) != "data of 1" {
				t.Fatalf("last step saw %+v", last)
			}
			settled := len(w.endings())
			if want := map[bool]int{true: 1, false: 4}[mode == channel.Always]; settled != want {
				t.Errorf("%d records settled, want %d: how many hops were stored is the mode's promise", settled, want)
			}
			for i := range 4 {
				if n := w.lag(fmt.Sprintf("c%d", i), fmt.Sprintf("u%d", i)); n != 0 {
					t.Errorf("channel %d: %d records left", i, n)
				}
			}
		})
	}
}

func TestAFanOutIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		w.step("http://s0", passOn(0))
		w.step("http://s1", accept)
		w.step("http://other", accept)
		seq := sequence(2, channel.Always, nil)
		seq[1].Subscriptions = append(seq[1].Subscriptions, &channel.Subscription{
			UID: "other", Namespace: "ns", Name: "other", Subscriber: &egress.Target{URL: "http://other"},
		})
		w.apply(seq...)
		w.publish("c0", ev("1"))
		synctest.Wait()
		if a, b := len(w.called("http://s1")), len(w.called("http://other")); a != 1 || b != 1 {
			t.Errorf("the two subscriptions were called %d and %d times, want once each", a, b)
		}
	})
}

func TestALongChainIsCheckpointed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		for i := range 4 {
			next := passOn(i)
			w.step(fmt.Sprintf("http://s%d", i), func(r *egress.Request) egress.Result {
				time.Sleep(600 * time.Millisecond)
				return next(r)
			})
		}
		w.apply(sequence(4, channel.Always, nil)...)
		w.publish("c0", ev("1"))
		time.Sleep(10 * time.Second)
		// 0 and 1 run in one chain, 1.2 s; the hop to 2 is stored.
		if got := fmt.Sprint(w.endings()); got != "[replied completed]" {
			t.Errorf("records ended %s", got)
		}
	})
}

func TestACycleIsStoredOnceAround(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		var calls atomic.Int32
		w.step("http://s0", func(r *egress.Request) egress.Result {
			if calls.Add(1) > 5 {
				return egress.Result{Status: 200}
			}
			return passOn(0)(r)
		})
		w.step("http://s1", passOn(1))
		seq := sequence(2, channel.Always, nil)
		seq[1].Subscriptions[0].Reply = &channel.Destination{Channel: "ns/c0"}
		w.apply(seq...)
		w.publish("c0", ev("1"))
		synctest.Wait()
		if got := fmt.Sprint(w.endings()); got != "[replied replied replied replied replied completed]" {
			t.Errorf("records ended %s", got)
		}
	})
}

// A golden test: what the steps and the sinks see is the same, whether hops
// skip the store or not (promise P8).
func TestAttemptsAndDeadLettersAreTheSameWithAndWithoutShortCircuit(t *testing.T) {
	failures := map[string]func(*egress.Request) egress.Result{
		"400 is final":         status(400, "bad"),
		"500 is retried":       status(500, strings.Repeat("x", 2000)),
		"429 is retried":       status(429, ""),
		"no answer is retried": nil,
		"bad reply is final": func(*egress.Request) egress.Result {
			return egress.Result{Status: 200, Err: egress.ErrReply}
		},
	}
	for name, failing := range failures {
		for _, k := range []int{0, 1, 2} {
			t.Run(fmt.Sprintf("%s at step %d", name, k), func(t *testing.T) {
				never := transcript(t, channel.Never, k, failing)
				always := transcript(t, channel.Always, k, failing)
				if never != always {
					t.Errorf("Never:\n%s\nAlways:\n%s", never, always)
				}
				// With the pods of section 7, whichever steps they hold.
				for _, hold := range []map[string][]string{
					{"p0": {"u0", "u1", "u2"}}, {"p0": {"u0", "u1"}}, {"p0": {"u1", "u2"}},
				} {
					for _, mode := range []channel.ShortCircuit{channel.Colocated, channel.Always} {
						if got := transcript(t, mode, k, failing, hold); got != never {
							t.Errorf("Never:\n%s\nmode %d with pods %v:\n%s", never, mode, hold, got)
						}
					}
				}
				if !strings.Contains(never, "http://dls") {
					t.Errorf("no dead letter:\n%s", never)
				}
			})
		}
	}
}

func transcript(t *testing.T, mode channel.ShortCircuit, k int, failing func(*egress.Request) egress.Result, hold ...map[string][]string) string {
	t.Helper()
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		for _, h := range hold {
			w.d.Close(t.Context())
			w.pods = &pods{w: w, hold: h}
			w.start()
		}
		for i := range 3 {
			w.step(fmt.Sprintf("http://s%d", i), passOn(i))
		}
		w.step(fmt.Sprintf("http://s%d", k), failing)
		w.step("http://dls", accept)
		w.apply(sequence(3, mode, func(i int, s *channel.Subscription) {
			s.Policy = egress.Policy{Retry: 2 + i, Delay: time.Second, Backoff: egress.Linear}
			s.DeadLetter = &channel.Destination{Target: egress.Target{URL: "http://dls"}}
		})...)
		w.publish("c0", ev("1"))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range w.calls {
			e := c.event
			fmt.Fprintf(&out, "%s %s %s %s %v %q\n", c.url, e.ID, e.Source, e.Type, e.Attributes, e.Data)
		}
	})
	return out.String()
}

func TestASpilledEventKeepsItsBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		w.step("http://s0", passOn(0))
		w.step("http://s1", status(503, ""))
		w.apply(sequence(2, channel.Always, func(i int, s *channel.Subscription) {
			s.Policy = egress.Policy{Retry: 2, Delay: 10 * time.Second, Backoff: egress.Linear}
		})...)
		w.publish("c0", ev("1"))
		time.Sleep(time.Minute * 2)
		calls := w.called("http://s1")
		if len(calls) != 3 {
			t.Fatalf("%d attempts, want 3", len(calls))
		}
		for i, least := range []time.Duration{10 * time.Second, 20 * time.Second} {
			// The header has milliseconds.
			if got := calls[i+1].at.Sub(calls[i].at); got < least-time.Millisecond {
				t.Errorf("pause %d was %v, want at least %v", i+1, got, least)
			}
		}
		if n := len(w.called("http://s0")); n != 1 {
			t.Errorf("the step before was called %d times", n)
		}
	})
}

func TestAFailingDeadLetterSinkDoesNotSettleTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		w.step("http://s0", status(400, "no"))
		w.step("http://dls", status(400, "no"))
		w.apply(sequence(1, channel.Never, func(_ int, s *channel.Subscription) {
			s.DeadLetter = &channel.Destination{Target: egress.Target{URL: "http://dls"}}
		})...)
		w.publish("c0", ev("1"))
		time.Sleep(time.Hour)
		if n := w.lag("c0", "u0"); n != 1 {
			t.Fatalf("%d records left, want the one", n)
		}
		if s, _ := w.d.State("u0"); s.Parked != 1 {
			t.Errorf("state %+v, want one parked", s)
		}
		if n := len(w.called("http://s0")); n != 1 {
			t.Errorf("the step was called %d times, want once", n)
		}
		w.step("http://dls", accept)
		time.Sleep(time.Minute)
		if n := w.lag("c0", "u0"); n != 0 {
			t.Errorf("%d records left after the sink recovered", n)
		}
		if s, _ := w.d.State("u0"); s.Parked != 0 {
			t.Errorf("state %+v, want none parked", s)
		}
	})
}

func TestParkedRecordsStopFetchingBeforeTheyFillTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *channel.Config) { c.Window = 16 })
		defer w.stop()
		w.step("http://s0", status(400, "no"))
		w.apply(sequence(1, channel.Never, func(_ int, s *channel.Subscription) {
			s.DeadLetter = &channel.Destination{Target: egress.Target{URL: "http://nobody"}}
		})...)
		for i := range 100 {
			w.publish("c0", ev(fmt.Sprint(i)))
		}
		time.Sleep(time.Hour)
		// What was on its way when the limit was reached may exceed it.
		if s, _ := w.d.State("u0"); s.Parked < 4 || s.Parked > 16 {
			t.Errorf("%d parked, want a quarter of the window", s.Parked)
		}
		w.step("http://nobody", accept)
		time.Sleep(time.Hour)
		if n := w.lag("c0", "u0"); n != 0 {
			t.Errorf("%d records left after the sink recovered", n)
		}
	})
}

func TestAFailedReplyDeadLettersTheOriginalAndDoesNotCallTheStepAgain(t *testing.T) {
	for _, mode := range []channel.ShortCircuit{channel.Never, channel.Always, channel.Colocated} {
		bubble(t, fmt.Sprint(mode), func(t *testing.T) {
			w := newWorld(t)
			inOnePod(w, 2)
			defer w.stop()
			w.step("http://s0", passOn(0))
			w.step("http://s1", passOn(1))
			w.step("http://reply", status(503, "later"))
			w.step("http://dls", accept)
			w.apply(sequence(2, mode, func(i int, s *channel.Subscription) {
				s.Policy = egress.Policy{Retry: 2}
				s.DeadLetter = &channel.Destination{Target: egress.Target{URL: "http://dls"}}
				if i == 1 {
					s.Reply = &channel.Destination{Target: egress.Target{URL: "http://reply"}}
				}
			})...)
			w.publish("c0", ev("1"))
			time.Sleep(time.Minute)
			if n := len(w.called("http://s1")); n != 1 {
				t.Errorf("step called %d times", n)
			}
			if n := len(w.called("http://reply")); n != 3 {
				t.Errorf("%d attempts at the reply, want 3", n)
			}
			dead := w.called("http://dls")
			if len(dead) != 1 || dead[0].event.Type != "t>0" || dead[0].event.Get("knativeerrordest") != "http://reply" {
				t.Errorf("dead letters %+v, want the event that entered the step", dead)
			}
		})
	}
}

func TestTheRecordIsNotAckedBeforeItsReplyIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stuck := &stuckPublisher{Backend: w.backend}
		w.backend = stuck
		w.start()
		w.step("http://s0", passOn(0))
		w.step("http://s1", accept)
		w.apply(sequence(2, channel.Never, nil)...)
		w.publish("c0", ev("1"))
		synctest.Wait()
		stuck.on.Store(true)
		w.publish2(t, stuck, "c0", ev("2"))
		time.Sleep(time.Hour)
		if n := w.lag("c0", "u0"); n != 1 {
			t.Errorf("%d records left in c0, want 1: its reply could not be stored", n)
		}
		stuck.on.Store(false)
		time.Sleep(time.Minute)
		if n := len(w.called("http://s1")); n != 2 {
			t.Errorf("last step saw %d events, want 2", n)
		}
		if n := len(w.called("http://s0")); n != 2 {
			t.Errorf("first step saw %d events, want 2: waiting for the store must not call it again", n)
		}
		w.stop()
	})
}

// stuckPublisher refuses publishes while it is on.
type stuckPublisher struct {
	backend.Backend
	on atomic.Bool
}

func (s *stuckPublisher) Publish(ctx context.Context, log string, r *backend.Record) error {
	if s.on.Load() {
		return fmt.Errorf("stuck: %w", backend.ErrUnavailable)
	}
	return s.Backend.Publish(ctx, log, r)
}

// publish2 goes around the stuck publisher.
func (w *world) publish2(t *testing.T, s *stuckPublisher, name string, e *event.Event) {
	t.Helper()
	r := event.ToRecord(e)
	if err := s.Backend.Publish(t.Context(), "ns/"+name, &r); err != nil {
		t.Fatal(err)
	}
}

func TestParallelBranchesThatEchoAnIDDoNotLoseReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		var subs []*channel.Subscription
		for i := range 3 {
			url := fmt.Sprintf("http://b%d", i)
			w.step(url, passOn(i))
			subs = append(subs, &channel.Subscription{
				UID: fmt.Sprintf("b%d", i), Namespace: "ns", Name: url, Subscriber: &egress.Target{URL: url},
				Reply: &channel.Destination{Channel: "ns/join"},
			})
		}
		w.step("http://join", accept)
		w.apply(
			&channel.Channel{Namespace: "ns", Name: "in", Subscriptions: subs},
			&channel.Channel{Namespace: "ns", Name: "join", Subscriptions: []*channel.Subscription{
				{UID: "j", Namespace: "ns", Name: "join", Subscriber: &egress.Target{URL: "http://join"}},
			}},
		)
		w.publish("in", ev("1"))
		w.publish("in", ev("1"))
		synctest.Wait()
		if n := len(w.called("http://join")); n != 6 {
			t.Errorf("%d replies arrived, want 6", n)
		}
	})
}

func TestAForgedTriedHeaderIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		w.step("http://s0", accept)
		w.apply(sequence(1, channel.Never, nil)...)
		r := event.ToRecord(ev("1"), backend.Header{
			Name: "sidestep-tried", Value: "1;u0;9;0;400;0;;;" + strings.Repeat("A", 43),
		})
		if err := w.backend.Publish(t.Context(), "ns/c0", &r); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(w.called("http://s0")); n != 1 {
			t.Errorf("step called %d times, want once", n)
		}
	})
}

func TestClosingGivesBackWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.step("http://s0", status(503, ""))
		w.apply(sequence(1, channel.Never, func(_ int, s *channel.Subscription) {
			s.Policy = egress.Policy{Retry: 5, Delay: time.Hour}
		})...)
		w.publish("c0", ev("1"))
		synctest.Wait()
		w.stop() // must not wait for the hour
		if n := w.lag("c0", "u0"); n != 1 {
			t.Errorf("%d records left, want 1", n)
		}
		w.start()
		w.step("http://s0", accept)
		w.apply(sequence(1, channel.Never, nil)...)
		synctest.Wait()
		if n := w.lag("c0", "u0"); n != 0 {
			t.Errorf("%d records left after the restart", n)
		}
		w.stop()
	})
}

func TestCloseCancelsWhatDoesNotEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hang := &hangingSender{}
		w.d.Close(t.Context())
		w.start(func(c *channel.Config) { c.Sender = hang })
		w.apply(sequence(1, channel.Never, nil)...)
		w.publish("c0", ev("1"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.d.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v, want a deadline exceeded", err)
		}
		if n := w.lag("c0", "u0"); n != 1 {
			t.Errorf("%d records left, want 1", n)
		}
	})
}

type hangingSender struct{}

func (hangingSender) Send(ctx context.Context, _ *egress.Request, _ egress.Format, _ time.Duration) egress.Result {
	<-ctx.Done()
	return egress.Result{Err: context.Cause(ctx)}
}

func TestAReplyToAChannelThatIsGoneRunsAgainByTheNewTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		w.step("http://s0", passOn(0))
		w.step("http://s1", accept)
		seq := sequence(2, channel.Never, nil)
		w.apply(seq...)
		if err := w.backend.DeleteLog(t.Context(), "ns/c1"); err != nil {
			t.Fatal(err)
		}
		w.publish("c0", ev("1"))
		time.Sleep(time.Second)
		if n := w.lag("c0", "u0"); n != 1 {
			t.Fatalf("%d records left, want 1", n)
		}
		short := sequence(1, channel.Never, nil)
		w.apply(short...)
		time.Sleep(time.Hour)
		if n := w.lag("c0", "u0"); n != 0 {
			t.Errorf("%d records left under the new table", n)
		}
	})
}

func TestObservedFollowsTheOldestTableHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		release := make(chan struct{})
		w.step("http://s0", func(*egress.Request) egress.Result {
			<-release
			return egress.Result{Status: 202}
		})
		first := w.apply(sequence(1, channel.Never, nil)...)
		w.publish("c0", ev("1"))
		synctest.Wait()
		second := w.apply(sequence(1, channel.Never, nil)...)
		if got := w.d.Observed(); got != first {
			t.Errorf("observed %d while an attempt by table %d is under way", got, first)
		}
		close(release)
		synctest.Wait()
		if got := w.d.Observed(); got != second {
			t.Errorf("observed %d, want %d", got, second)
		}
	})
}

func TestEventsOfOneKeyStartInLogOrderAndOthersPassThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		w.step("http://s0", func(r *egress.Request) egress.Result {
			if r.Event.Get("partitionkey") == "slow" {
				time.Sleep(time.Second)
			}
			return egress.Result{Status: 202}
		})
		seq := sequence(1, channel.Never, nil)
		seq[0].Ordered = true
		w.apply(seq...)
		for i := range 5 {
			for _, key := range []string{"slow", "quick"} {
				w.publish("c0", ev(fmt.Sprintf("%s%d", key, i)).With(event.Attribute{Name: "partitionkey", Value: key}))
			}
		}
		time.Sleep(time.Minute)
		got := map[string]string{}
		last := map[string]time.Time{}
		for _, c := range w.called("http://s0") {
			key := c.event.Get("partitionkey")
			got[key] += strings.TrimPrefix(c.event.ID, key)
			if key == "slow" && c.at.Before(last[key].Add(time.Second)) {
				t.Errorf("event %s of the slow key began before the one before it had ended", c.event.ID)
			}
			last[key] = c.at
		}
		if got["slow"] != "01234" || got["quick"] != "01234" {
			t.Errorf("orders %v", got)
		}
		if !last["quick"].Before(last["slow"].Add(-3 * time.Second)) {
			t.Error("the quick key waited for the slow one")
		}
	})
}

func TestASubscriptionWithoutSubscriberForwardsToItsReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		w.step("http://s1", accept)
		w.apply(sequence(2, channel.Always, func(i int, s *channel.Subscription) {
			if i == 0 {
				s.Subscriber = nil
			}
		})...)
		w.publish("c0", ev("1"))
		synctest.Wait()
		if n := len(w.called("http://s1")); n != 1 {
			t.Errorf("next step called %d times", n)
		}
	})
}

func TestAReplyTooLargeForTheLogIsAFailureOfTheReply(t *testing.T) {
	for _, mode := range []channel.ShortCircuit{channel.Never, channel.Always} {
		bubble(t, fmt.Sprint(mode), func(t *testing.T) {
			w := newWorld(t)
			defer w.stop()
			w.step("http://s0", reply(func(in *event.Event) *event.Event {
				return &event.Event{SpecVersion: "1.0", ID: "big", Source: "s", Type: "t", Data: make([]byte, 2<<20)}
			}))
			w.step("http://dls", accept)
			w.apply(sequence(2, mode, func(_ int, s *channel.Subscription) {
				s.DeadLetter = &channel.Destination{Target: egress.Target{URL: "http://dls"}}
			})...)
			w.publish("c0", ev("1"))
			synctest.Wait()
			dead := w.called("http://dls")
			if len(dead) != 1 || dead[0].event.ID != "1" || dead[0].event.Get("knativeerrorcode") != "413" ||
				dead[0].event.Get("knativeerrordest") != "http://c1" {
				t.Errorf("dead letters %+v", dead)
			}
		})
	}
}
