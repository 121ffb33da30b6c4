package faultbackend_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/faultbackend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
)

const (
	log   = "ns/log"
	group = "g"
)

// world is a faulty connection to a store, and a sound one to look with.
type world struct {
	faulty *faultbackend.Backend
	sound  *membackend.Backend
}

func newWorld(t *testing.T, plan faultbackend.Plan) world {
	t.Helper()
	store := membackend.NewStore(membackend.Options{})
	w := world{faulty: faultbackend.New(store.Connect(), plan), sound: store.Connect()}
	must(t, first(w.sound.EnsureLog(t.Context(), backend.Log{Name: log})))
	must(t, w.sound.EnsureGroup(t.Context(), log, backend.Group{Name: group}))
	return w
}

func first[T any](_ T, err error) error { return err }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w world) lag(t *testing.T) int64 {
	t.Helper()
	lag, err := w.sound.Lag(t.Context(), log, group)
	must(t, err)
	return lag.Records
}

func (w world) subscribe(t *testing.T) backend.Subscription {
	t.Helper()
	s, err := w.faulty.Subscribe(t.Context(), log, group, backend.Options{})
	must(t, err)
	return s
}

func receive(t *testing.T, s backend.Subscription) string {
	t.Helper()
	d, err := s.Receive(t.Context())
	must(t, err)
	return string(d.Data)
}

func nth(op faultbackend.Op, n int, do faultbackend.Action) faultbackend.Plan {
	return faultbackend.Script(faultbackend.Rule{Op: op, First: n, Fault: faultbackend.Fault{Do: do}})
}

func TestPublishFaultsDoNotDiffer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do     faultbackend.Action
		failed bool
		stored int64 // of three, the second being faulty
	}{
		"pass":              {faultbackend.Pass, false, 3},
		"fail":              {faultbackend.Fail, true, 2},
		"lose confirmation": {faultbackend.LoseConfirmation, true, 3},
		"drop":              {faultbackend.Drop, false, 2},
		"duplicate":         {faultbackend.Duplicate, false, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nth(faultbackend.Publish, 2, c.do))
			for i, dedup := range []string{"a", "b", "c"} {
				err := w.faulty.Publish(t.Context(), log, &backend.Record{Dedup: dedup})
				if failed := errors.Is(err, backend.ErrUnavailable); failed != (c.failed && i == 1) {
					t.Errorf("publish %d: %v", i+1, err)
				}
			}
			if got := w.lag(t); got != c.stored {
				t.Errorf("%d records stored, want %d", got, c.stored)
			}
			want := 1
			if c.do == faultbackend.Pass {
				want = 0
			}
			if calls, faults := w.faulty.Calls(faultbackend.Publish), w.faulty.Faults(faultbackend.Publish); calls != 3 || faults != want {
				t.Errorf("counted %d calls and %d faults, want 3 and %d", calls, faults, want)
			}
		})
	}
}

func TestReceiveFaultsDoNotConsumeForGood(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do    faultbackend.Action
		first string   // "": an error
		rest  []string // what comes next
	}{
		"fail":              {faultbackend.Fail, "", []string{"1", "2"}},
		"lose confirmation": {faultbackend.LoseConfirmation, "", []string{"2"}},
		"drop":              {faultbackend.Drop, "2", nil},
		"duplicate":         {faultbackend.Duplicate, "1", []string{"1", "2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nth(faultbackend.Receive, 1, c.do))
			for _, id := range []string{"1", "2"} {
				must(t, w.sound.Publish(t.Context(), log, &backend.Record{Data: []byte(id)}))
			}
			s := w.subscribe(t)
			d, err := s.Receive(t.Context())
			switch {
			case c.first == "" && (d != nil || !errors.Is(err, backend.ErrUnavailable)):
				t.Errorf("received %v, error %v, want none and %v", d, err, backend.ErrUnavailable)
			case c.first != "" && (err != nil || string(d.Data) != c.first):
				t.Errorf("received %v, error %v, want %s", d, err, c.first)
			}
			for _, id := range c.rest {
				if got := receive(t, s); got != id {
					t.Errorf("received %s, want %s", got, id)
				}
			}
			must(t, s.Close())
			s = w.subscribe(t) // whatever was withheld comes back
			if got := []string{receive(t, s), receive(t, s)}; !slices.Equal(got, []string{"1", "2"}) {
				t.Errorf("after reopening: %s", got)
			}
		})
	}
}

func TestAckFaultsDoNotSettle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do     faultbackend.Action
		failed bool
		left   int64
	}{
		"fail":              {faultbackend.Fail, true, 1},
		"lose confirmation": {faultbackend.LoseConfirmation, true, 0},
		"drop":              {faultbackend.Drop, false, 1},
		"duplicate":         {faultbackend.Duplicate, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nth(faultbackend.Ack, 1, c.do))
			must(t, w.sound.Publish(t.Context(), log, &backend.Record{Data: []byte("1")}))
			s := w.subscribe(t)
			d, err := s.Receive(t.Context())
			must(t, err)
			if err := s.Ack(d); (err != nil) != c.failed {
				t.Errorf("Ack: %v", err)
			}
			if got := w.lag(t); got != c.left {
				t.Errorf("%d records left, want %d", got, c.left)
			}
		})
	}
}

// Every operation that has a context and can fail, fails as the script says,
// before or after its effect.
func TestFailuresDoNotHideTheirEffect(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	missing := backend.ErrNotFound
	for _, c := range []struct {
		op   faultbackend.Op
		call func(backend.Backend) error
		done func(backend.Backend) bool // has it had its effect?
	}{
		{
			faultbackend.EnsureLog,
			func(b backend.Backend) error { return first(b.EnsureLog(ctx, backend.Log{Name: "new"})) },
			func(b backend.Backend) bool { return !errors.Is(b.Seal(ctx, "new"), missing) },
		}, {
			faultbackend.DeleteLog,
			func(b backend.Backend) error { return b.DeleteLog(ctx, log) },
			func(b backend.Backend) bool { return errors.Is(b.Seal(ctx, log), missing) },
		}, {
			faultbackend.EnsureGroup,
			func(b backend.Backend) error { return b.EnsureGroup(ctx, log, backend.Group{Name: "new"}) },
			func(b backend.Backend) bool { return first(b.Lag(ctx, log, "new")) == nil },
		}, {
			faultbackend.DeleteGroup,
			func(b backend.Backend) error { return b.DeleteGroup(ctx, log, group) },
			func(b backend.Backend) bool { return first(b.Lag(ctx, log, group)) != nil },
		}, {
			faultbackend.Seal,
			func(b backend.Backend) error { return b.Seal(ctx, log) },
			func(b backend.Backend) bool {
				return errors.Is(b.Publish(ctx, log, &backend.Record{}), backend.ErrSealed)
			},
		},
	} {
		for do, effect := range map[faultbackend.Action]bool{faultbackend.Fail: false, faultbackend.LoseConfirmation: true} {
			w := newWorld(t, nth(c.op, 1, do))
			if err := c.call(w.faulty); !errors.Is(err, backend.ErrUnavailable) {
				t.Errorf("%s: error %v, want %v", c.op, err, backend.ErrUnavailable)
			}
			if done := c.done(w.sound); done != effect {
				t.Errorf("%s, action %d: has had its effect: %v, want %v", c.op, do, done, effect)
			}
			must(t, c.call(w.faulty)) // the second call is sound
			if !c.done(w.sound) {
				t.Errorf("%s: no effect of the second call", c.op)
			}
		}
	}
}

func TestFailuresDoNotReturnResults(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	fail := faultbackend.Fault{Do: faultbackend.Fail, Err: boom}
	lose := faultbackend.Fault{Do: faultbackend.LoseConfirmation, Err: boom}
	w := newWorld(t, faultbackend.Script(
		faultbackend.Rule{Op: faultbackend.Lag, First: 1, Fault: fail},
		faultbackend.Rule{Op: faultbackend.Subscribe, First: 1, Fault: fail},
		faultbackend.Rule{Op: faultbackend.Subscribe, First: 2, Fault: lose},
		faultbackend.Rule{Op: faultbackend.Room, First: 1, Fault: faultbackend.Fault{Do: faultbackend.Fail}},
	))
	must(t, w.sound.Publish(t.Context(), log, &backend.Record{Data: []byte("1")}))
	if lag, err := w.faulty.Lag(t.Context(), log, group); !errors.Is(err, boom) || lag != (backend.Lag{}) {
		t.Errorf("Lag: %v, %v", lag, err)
	}
	for range 2 {
		if s, err := w.faulty.Subscribe(t.Context(), log, group, backend.Options{}); !errors.Is(err, boom) || s != nil {
			t.Errorf("Subscribe: %v, %v", s, err)
		}
	}
	if err := w.faulty.Room(log); !errors.Is(err, backend.ErrFull) {
		t.Errorf("Room: %v", err)
	}
	must(t, w.faulty.Room(log))
	if got := receive(t, w.subscribe(t)); got != "1" { // no member is left over
		t.Errorf("received %s, want 1", got)
	}
}

func TestDelayDoesNotOutliveItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, faultbackend.Script(
			faultbackend.Rule{Op: faultbackend.Publish, First: 1, Last: -1, Fault: faultbackend.Fault{Delay: time.Minute}},
			faultbackend.Rule{Op: faultbackend.Receive, First: 1, Fault: faultbackend.Fault{Delay: time.Hour}},
		))
		start := time.Now()
		must(t, w.faulty.Publish(t.Context(), log, &backend.Record{}))
		if took := time.Since(start); took != time.Minute {
			t.Errorf("delayed by %v, want a minute", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := w.faulty.Publish(ctx, log, &backend.Record{})
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, backend.ErrUnavailable) {
			t.Errorf("cancelled publish: %v", err)
		}
		if _, err := w.subscribe(t).Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cancelled receive: %v", err)
		}
		if got := w.lag(t); got != 1 {
			t.Errorf("%d records stored, want 1", got)
		}
	})
}

func TestScriptDoesNotReachBeyondItsRange(t *testing.T) {
	t.Parallel()
	rule := func(firstCall, lastCall int) faultbackend.Plan {
		return faultbackend.Script(faultbackend.Rule{
			Op: faultbackend.Seal, First: firstCall, Last: lastCall, Fault: faultbackend.Fault{Do: faultbackend.Fail},
		})
	}
	for _, c := range []struct {
		first, last int
		want        []int
	}{{2, 0, []int{2}}, {2, 3, []int{2, 3}}, {3, -1, []int{3, 4, 5}}, {0, -1, []int{1, 2, 3, 4, 5}}, {9, 0, nil}} {
		var got []int
		for n := 1; n <= 5; n++ {
			if rule(c.first, c.last)(faultbackend.Call{Op: faultbackend.Seal, N: n}).Do == faultbackend.Fail {
				got = append(got, n)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("rule %d to %d: calls %v fail, want %v", c.first, c.last, got, c.want)
		}
		if f := rule(c.first, c.last)(faultbackend.Call{Op: faultbackend.Publish, N: 3}); f.Do != faultbackend.Pass {
			t.Errorf("rule %d to %d: reaches another operation", c.first, c.last)
		}
	}
}

// The same seed gives the nth call the same fault, however calls interleave.
func TestRandomDoesNotDependOnInterleaving(t *testing.T) {
	t.Parallel()
	const n = 2000
	chance := faultbackend.Chance{Op: faultbackend.Publish, Probability: 0.25, Fault: faultbackend.Fault{Do: faultbackend.Drop}}
	run := func(seed uint64, goroutines int) (stored int64, dropped int) {
		w := newWorld(t, faultbackend.Random(seed, chance))
		var wg sync.WaitGroup
		for range goroutines {
			wg.Go(func() {
				for range n / goroutines {
					if err := w.faulty.Publish(t.Context(), log, &backend.Record{}); err != nil {
						t.Errorf("publish: %v", err)
					}
				}
			})
		}
		wg.Wait()
		return w.lag(t), w.faulty.Faults(faultbackend.Publish)
	}
	stored, dropped := run(7, 1)
	if stored+int64(dropped) != n || dropped < n/5 || dropped > n*3/10 {
		t.Errorf("of %d records %d stored and %d dropped, want about a quarter dropped", n, stored, dropped)
	}
	if again, _ := run(7, 8); again != stored {
		t.Errorf("the same seed stored %d, then %d", stored, again)
	}
	other := faultbackend.Random(8, chance)
	same := faultbackend.Random(7, chance)
	differ := false
	for i := range n {
		c := faultbackend.Call{Op: faultbackend.Publish, N: i + 1}
		differ = differ || other(c).Do != same(c).Do
	}
	if !differ {
		t.Error("another seed gives the same faults")
	}
}

func TestSetPlanDoesNotForgetTheCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	must(t, w.faulty.Publish(t.Context(), log, &backend.Record{}))
	w.faulty.SetPlan(nth(faultbackend.Publish, 2, faultbackend.Fail))
	if err := w.faulty.Publish(t.Context(), log, &backend.Record{}); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("second publish: %v", err)
	}
	w.faulty.SetPlan(nil)
	must(t, w.faulty.Publish(t.Context(), log, &backend.Record{}))
}
