package budget

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// line has waiters queue up one after the other and notes who is served. It
// works within a synctest bubble only: there, "is waiting" can be seen.
type line struct {
	b      *Budget
	mu     sync.Mutex
	served []string
}

// join queues up name for n bytes and returns once it waits or has them.
func (l *line) join(ctx context.Context, t *testing.T, namespace, name string, n int64) {
	t.Helper()
	go func() {
		if l.b.Acquire(ctx, namespace, n) != nil {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.served = append(l.served, name)
	}()
	synctest.Wait()
}

func (l *line) want(t *testing.T, names ...string) {
	t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.served, names) {
		t.Errorf("served %v, want %v", l.served, names)
	}
}

func wantUsed(t *testing.T, b *Budget, want int64) {
	t.Helper()
	if got := b.Used(); got != want {
		t.Errorf("used %d, want %d", got, want)
	}
}

func TestTryAcquireTakesWhatIsFree(t *testing.T) {
	t.Parallel()
	b := New(10)
	if !b.TryAcquire("a", 6) || b.TryAcquire("a", 5) || !b.TryAcquire("b", 4) || b.TryAcquire("b", 1) {
		t.Error("want 6 and 4 of 10, and nothing beyond")
	}
	b.Release("a", 6)
	wantUsed(t, b, 4)
	if b.Total() != 10 {
		t.Errorf("total %d", b.Total())
	}
}

func TestTryAcquireDoesNotOvertakeThoseWhoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := line{b: New(10)}
		l.b.Force("a", 5)
		l.join(t.Context(), t, "a", "large", 6)
		if l.b.TryAcquire("b", 1) {
			t.Error("1 byte was free, but somebody waits")
		}
		l.b.Release("a", 5)
		l.want(t, "large")
	})
}

func TestOrderWithinANamespace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := line{b: New(10)}
		l.b.Force("a", 10)
		for i := range 5 {
			l.join(t.Context(), t, "a", fmt.Sprint(i), 2)
		}
		l.want(t)
		for i := range 5 {
			l.b.Release("a", 2)
			l.want(t, []string{"0", "1", "2", "3", "4"}[:i+1]...)
		}
		wantUsed(t, l.b, 10)
	})
}

func TestLargeRequestIsNotStarvedBySmallOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := line{b: New(10)}
		l.b.Force("a", 10)
		l.join(t.Context(), t, "a", "large", 10)
		l.join(t.Context(), t, "b", "small", 1)
		l.b.Release("a", 9)
		l.want(t) // small would fit, and is behind
		l.b.Release("a", 1)
		l.want(t, "large")
		l.b.Release("a", 10)
		l.want(t, "large", "small")
	})
}

func TestOneNamespaceDoesNotHoldUpAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// Each wants a quantum a time: served in turn, whatever the length
		// of the queues.
		l := line{b: New(quantum)}
		l.b.Force("a", quantum)
		for i := range 20 {
			l.join(t.Context(), t, "a", fmt.Sprint("a", i), quantum)
		}
		for i := range 3 {
			l.join(t.Context(), t, "b", fmt.Sprint("b", i), quantum)
		}
		for range 6 {
			l.b.Release("a", quantum)
			synctest.Wait()
		}
		var b int
		for _, name := range l.served {
			if name[0] == 'b' {
				b++
			}
		}
		if b != 3 {
			t.Errorf("served %v: want 3 of b among 6", l.served)
		}
		for range 17 {
			l.b.Release("a", quantum)
			synctest.Wait()
		}
	})
}

func TestSharesAreFairByBytesAndNotByCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const large, small = quantum, quantum / 16
		l := line{b: New(large)}
		l.b.Force("x", large)
		for range 10 {
			l.join(t.Context(), t, "large", "l", large)
		}
		for range 160 {
			l.join(t.Context(), t, "small", "s", small)
		}
		// Give back what was taken until half of all bytes were served.
		bytes := map[string]int64{}
		held, seen := int64(large), 0
		for bytes["l"]+bytes["s"] < 10*large {
			l.b.Release("x", held)
			synctest.Wait()
			held = 0
			for _, name := range l.served[seen:] {
				n := int64(large)
				if name == "s" {
					n = small
				}
				bytes[name] += n
				held += n
			}
			seen = len(l.served)
		}
		if d := bytes["l"] - bytes["s"]; d < -2*quantum || d > 2*quantum {
			t.Errorf("served %d bytes of large events and %d of small ones", bytes["l"], bytes["s"])
		}
		for l.b.Used() > 0 {
			l.b.Release("x", l.b.Used())
			synctest.Wait()
		}
	})
}

func TestCancelWhileWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("why")
		l := line{b: New(10)}
		l.b.Force("a", 5)
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		go func() { result <- l.b.Acquire(ctx, "a", 10) }()
		synctest.Wait()
		l.join(t.Context(), t, "a", "behind", 5)
		l.join(t.Context(), t, "b", "beside", 1)
		l.want(t)
		cancel(why)
		if err := <-result; !errors.Is(err, why) {
			t.Errorf("got %v, want the cause", err)
		}
		// Nothing is released, yet there is room once the first gave up.
		synctest.Wait()
		if used := l.b.Used(); used != 10 && used != 6 {
			t.Errorf("used %d: those behind were not woken", used)
		}
		l.b.Release("a", 5)
		synctest.Wait()
		if len(l.served) != 2 {
			t.Errorf("served %v, want both", l.served)
		}
		wantUsed(t, l.b, 6)
	})
}

func TestEndedContextTakesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b := New(10)
	if err := b.Acquire(ctx, "a", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wantUsed(t, b, 0)
}

func TestThoseWhoGaveUpLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := line{b: New(10)}
		l.b.Force("a", 10)
		ctx, cancel := context.WithCancel(t.Context())
		l.join(t.Context(), t, "a", "first", 10)
		for range 100 {
			l.join(ctx, t, "a", "gave up", 1)
			l.join(ctx, t, "b", "gave up", 1)
		}
		cancel()
		synctest.Wait()
		for namespace, q := range l.b.queues {
			if want := map[string]int{"a": 1}[namespace]; len(q.waiters) != want {
				t.Errorf("%d wait in %s, want %d", len(q.waiters), namespace, want)
			}
		}
		l.b.Release("a", 10)
		l.want(t, "first")
		if len(l.b.queues) != 0 || len(l.b.turns) != 0 {
			t.Errorf("%d queues and %d turns are left", len(l.b.queues), len(l.b.turns))
		}
	})
}

func TestForceGoesBeyondTheBudgetAndHoldsUpWhoComesLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := line{b: New(10)}
		l.b.Force("a", 25)
		wantUsed(t, l.b, 25)
		l.join(t.Context(), t, "b", "later", 1)
		l.b.Release("a", 15)
		l.want(t)
		l.b.Release("a", 1)
		l.want(t, "later")
		wantUsed(t, l.b, 10)
	})
}

func TestRequestLargerThanTheBudgetIsLetThroughAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := line{b: New(10)}
		l.b.Force("a", 1)
		l.join(t.Context(), t, "a", "huge", 100)
		l.want(t)
		l.b.Release("a", 1)
		l.want(t, "huge")
		l.join(t.Context(), t, "b", "next", 1)
		l.want(t, "huge")
		l.b.Release("a", 100)
		l.want(t, "huge", "next")
	})
}

func TestALargerBudgetServesThoseWhoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := line{b: New(10)}
		l.b.Force("a", 10)
		l.join(t.Context(), t, "a", "first", 6)
		l.join(t.Context(), t, "b", "second", 6)
		l.b.SetTotal(16)
		l.want(t, "first")
		l.b.SetTotal(4)
		if l.b.TryAcquire("c", 1) || l.b.Total() != 4 {
			t.Errorf("a byte was free of %d", l.b.Total())
		}
		l.b.Release("a", 16)
		l.want(t, "first", "second") // alone it may be larger than all
	})
}
