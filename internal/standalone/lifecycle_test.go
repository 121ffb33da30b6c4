package standalone

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend/faultbackend"
	"github.com/sidestep-dev/sidestep/channel/egress"
)

// patient is a policy that outlasts any removal.
var patient = egress.Policy{Retry: 1000, Backoff: egress.Linear, Delay: time.Second}

func unavailable(*egress.Request) egress.Result {
	return egress.Result{Status: 503, Err: egress.ErrStatus}
}

// What is stored in the first channel of a flow has yet to go through all that
// follow: an empty channel in its middle must not be removed before it.
func TestRemovedFlowIsDrainedFromItsBeginningToItsEnd(t *testing.T) {
	t.Parallel()
	for _, mode := range []channel.ShortCircuit{channel.Never, channel.Always} {
		t.Run(fmt.Sprintf("mode %d", mode), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newTown(t)
				w.step("http://s0", slow(3*time.Second))
				w.mustApply(line(3, mode)...)
				w.publish("c0", "before")
				w.mustApply()
				v := w.d.Hold()
				if v.ByName("ns", "c0") != nil {
					t.Error("a channel that was removed takes events")
				}
				v.Release()
				after(20 * time.Second)
				if n := w.called("http://s2"); n != 1 {
					t.Errorf("the last step was called %d times, want once", n)
				}
				for i := range 3 {
					if log := fmt.Sprintf("ns/c%d", i); w.exists(log, fmt.Sprintf("u%d", i)) {
						t.Errorf("%s was not removed", log)
					}
				}
				if s := w.logs.find("discarded"); s != "" {
					t.Errorf("something was discarded: %s", s)
				}
			})
		})
	}
}

// The records that wait behind a full window begin after the edit, by the table
// in which their flow drains.
func TestRecordsThatBeginAfterTheRemovalRunToTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		w.step("http://s0", unavailable)
		channels := line(3, channel.Never)
		channels[0].Subscriptions[0].Policy = patient
		w.mustApply(channels...)
		w.publish("c0", "e")
		after(1500 * time.Millisecond)
		w.mustApply()
		w.step("http://s0", slow(3*time.Second))
		after(25 * time.Second)
		if n := w.called("http://s2"); n != 1 {
			t.Errorf("the last step was called %d times, want once", n)
		}
		if s := w.logs.find("discarded"); s != "" {
			t.Errorf("something was discarded: %s", s)
		}
	})
}

func TestRemovalEndsAtItsDeadlineAndSaysWhatItDiscards(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		w.step("http://s0", unavailable)
		channels := line(2, channel.Never)
		channels[0].Subscriptions[0].Policy = patient
		w.mustApply(channels...)
		for i := range 3 {
			w.publish("c0", fmt.Sprint(i))
		}
		w.mustApply()
		after(drainTime - time.Second)
		if !w.exists("ns/c0", "u0") || !w.exists("ns/c1", "u1") {
			t.Fatal("a channel was removed before its deadline, with records in it")
		}
		after(2 * time.Second)
		if w.exists("ns/c0", "u0") || w.exists("ns/c1", "u1") {
			t.Error("a channel is there after its deadline")
		}
		if s := w.logs.find("discarded"); !strings.Contains(s, "ns/c0") || !strings.Contains(s, "records=3") {
			t.Errorf("want a line that 3 records of ns/c0 are discarded, got %q", s)
		}
		if n := counter(t, w.l.discarded); n != 3 {
			t.Errorf("%v records were counted as discarded, want 3", n)
		}
	})
}

// A removal is not put off by a later edit, and not by a restart.
func TestDeadlineIsSetOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		w.step("http://s0", unavailable) // keeps the channel from draining
		channels := line(1, channel.Never)
		channels[0].Subscriptions[0].Policy = patient
		w.mustApply(channels...)
		w.publish("c0", "e")
		w.mustApply()
		first := w.deadlines()["ns/c0"]
		after(10 * time.Second)
		w.mustApply()
		if got := w.deadlines()["ns/c0"]; !got.Equal(first) || first.IsZero() {
			t.Errorf("the deadline was %v and is %v", first, got)
		}
		again, err := openState(w.dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := again.Deadlines["ns/c0"]; !got.Equal(first) {
			t.Errorf("the deadline is %v in the file, want %v", got, first)
		}
	})
}

func TestObjectThatComesBackInTimeKeepsItsPosition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		w.step("http://s0", unavailable)
		channels := func() []*channel.Channel {
			c := line(1, channel.Never)
			c[0].Subscriptions[0].Policy = patient
			return c
		}
		w.mustApply(channels()...)
		w.publish("c0", "e")
		w.mustApply()
		after(drainTime / 2)
		w.mustApply(channels()...)
		w.step("http://s0", nil)
		after(2 * drainTime)
		if !w.exists("ns/c0", "u0") {
			t.Error("the channel was removed although it had come back")
		}
		w.publish("c0", "later")
		after(time.Second)
		if lag, err := w.backend.Lag(t.Context(), "ns/c0", "u0"); err != nil || lag.Records != 0 {
			t.Errorf("%d records are left (%v), want all delivered", lag.Records, err)
		}
		if left := w.deadlines(); len(left) > 0 {
			t.Errorf("deadlines are left: %v", left)
		}
	})
}

func TestTwoSubscriptionsOfOneChannelAreRemovedTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		three := func() *channel.Channel {
			c := line(1, channel.Never)[0]
			for _, uid := range []string{"x", "y"} {
				c.Subscriptions = append(c.Subscriptions, &channel.Subscription{
					UID: uid, Namespace: "ns", Name: uid, Subscriber: &egress.Target{URL: "http://" + uid},
				})
			}
			return c
		}
		w.mustApply(three())
		w.mustApply(line(1, channel.Never)...)
		after(5 * time.Second)
		for _, uid := range []string{"x", "y"} {
			if _, there := w.d.State(uid); there {
				t.Errorf("subscription %s is still in the table", uid)
			}
			if w.exists("ns/c0", uid) {
				t.Errorf("the group of subscription %s is still there", uid)
			}
		}
		if err := w.d.Err(); err != nil {
			t.Errorf("not ready: %v", err)
		}
	})
}

// A step of a channel that stays is drained before its position goes.
func TestRemovedSubscriptionGetsWhatWasStoredBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		w.step("http://x", unavailable)
		both := line(1, channel.Never)[0]
		both.Subscriptions = append(both.Subscriptions, &channel.Subscription{
			UID: "x", Namespace: "ns", Name: "x", Subscriber: &egress.Target{URL: "http://x"},
			Policy: patient,
		})
		w.mustApply(both)
		w.publish("c0", "e")
		w.mustApply(line(1, channel.Never)...)
		after(10 * time.Second)
		if !w.exists("ns/c0", "x") {
			t.Fatal("the position was removed with a record that was not delivered")
		}
		w.step("http://x", nil)
		after(10 * time.Second)
		if w.exists("ns/c0", "x") || w.logs.find("discarded") != "" {
			t.Error("want the subscription drained and then removed")
		}
	})
}

func TestBackendThatFailsToDeleteIsAskedAgain(t *testing.T) {
	t.Parallel()
	for _, op := range []faultbackend.Op{faultbackend.DeleteGroup, faultbackend.DeleteLog, faultbackend.Lag} {
		for _, do := range []faultbackend.Action{faultbackend.Fail, faultbackend.LoseConfirmation} {
			t.Run(fmt.Sprintf("%s %d", op, do), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newTown(t)
					all := append(line(2, channel.Never), twoMore()...)
					all[0].Subscriptions = append(all[0].Subscriptions, &channel.Subscription{
						UID: "extra", Namespace: "ns", Name: "extra", Subscriber: &egress.Target{URL: "http://extra"},
					})
					w.mustApply(all...)
					w.backend.SetPlan(faultbackend.Script(faultbackend.Rule{
						Op: op, First: 1, Last: 2, Fault: faultbackend.Fault{Do: do},
					}))
					w.mustApply(line(1, channel.Never)...)
					after(10 * time.Second)
					for _, g := range [][2]string{{"ns/c1", "u1"}, {"ns/d0", "d0"}, {"ns/d1", "d1"}, {"ns/c0", "extra"}} {
						if w.exists(g[0], g[1]) {
							t.Errorf("group %s of %s is still there", g[1], g[0])
						}
					}
					if left := w.deadlines(); len(left) != 0 {
						t.Errorf("removals are left: %v", left)
					}
					if err := w.d.Err(); err != nil {
						t.Errorf("not ready: %v", err)
					}
				})
			})
		}
	}
}

func twoMore() []*channel.Channel {
	out := line(2, channel.Never)
	for i, c := range out {
		c.Name, c.Hosts = fmt.Sprintf("d%d", i), nil
		c.Subscriptions[0].UID, c.Subscriptions[0].Reply = c.Name, nil
	}
	return out
}

func TestEditThatTheBackendCannotFollowLeavesTheTable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		w.mustApply(line(1, channel.Never)...)
		epoch := w.d.Epoch()
		w.backend.SetPlan(faultbackend.Script(faultbackend.Rule{
			Op: faultbackend.EnsureGroup, First: 1, Last: -1, Fault: faultbackend.Fault{Do: faultbackend.Fail},
		}))
		if err := w.apply(line(2, channel.Never)...); err == nil || !strings.Contains(err.Error(), "ns/s") {
			t.Errorf("got %v, want an error that names the subscription", err)
		}
		if w.d.Epoch() != epoch || len(w.deadlines()) != 0 {
			t.Error("an edit that failed has changed something")
		}
		w.backend.SetPlan(nil)
		w.mustApply(line(2, channel.Never)...)
		w.publish("c0", "e")
		after(time.Second)
		if w.called("http://s1") != 1 {
			t.Error("the event did not reach the step that was added")
		}
	})
}

// A process that dies right after an event was accepted must know, when it is
// back, the name of the group that has it.
func TestGroupIsWrittenDownBeforeItIsMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		w.backend.SetPlan(func(c faultbackend.Call) faultbackend.Fault {
			if c.Op != faultbackend.EnsureGroup {
				return faultbackend.Fault{}
			}
			if _, known := groupsOnDisk(t, w.dir)[c.Group]; !known {
				t.Errorf("group %s is made and not in the file", c.Group)
			}
			return faultbackend.Fault{}
		})
		w.mustApply(line(2, channel.Never)...)
		if n := w.backend.Calls(faultbackend.EnsureGroup); n != 2 {
			t.Errorf("%d groups were made, want 2", n)
		}
	})
}

func groupsOnDisk(t *testing.T, dir string) map[string]bool {
	t.Helper()
	s, err := openState(dir)
	if err != nil {
		t.Error(err)
		return nil
	}
	uids := map[string]bool{}
	for _, c := range s.Table.Channels {
		for _, sub := range c.Subscriptions {
			uids[sub.UID] = true
		}
	}
	return uids
}

// What payloads are swept is decided by it: it must not be younger than the truth.
func TestOldestRecordOfANamespaceIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		want := func(namespace string, at time.Time) {
			t.Helper()
			got, err := w.l.oldest(t.Context(), namespace)
			if err != nil || !got.Equal(at) {
				t.Errorf("the oldest of %s is of %v, %v; want %v", namespace, got, err, at)
			}
		}
		want("ns", time.Time{})
		w.step("http://s0", unavailable)
		w.step("http://s1", unavailable)
		channels := line(2, channel.Never)
		for _, c := range channels {
			c.Subscriptions[0].Policy = patient
		}
		w.mustApply(channels...)
		want("ns", time.Time{})
		first := time.Now()
		w.publish("c1", "1")
		after(time.Minute)
		second := time.Now()
		w.publish("c0", "2")
		want("ns", first)
		want("other", time.Time{})
		w.mustApply() // what is removed has records, too
		want("ns", first)
		w.mustApply(channels...)
		w.step("http://s1", nil)
		after(10 * time.Second)
		w.step("http://s1", unavailable)
		want("ns", second)
		w.step("http://s0", nil)
		w.step("http://s1", nil)
		after(10 * time.Second)
		want("ns", time.Time{})
		w.backend.SetPlan(faultbackend.Script(faultbackend.Rule{
			Op: faultbackend.Lag, First: 1, Last: -1, Fault: faultbackend.Fault{Do: faultbackend.Fail},
		}))
		if _, err := w.l.oldest(t.Context(), "ns"); err == nil {
			t.Error("it is said to be known while the backend does not answer")
		}
		w.backend.SetPlan(nil)
	})
}
