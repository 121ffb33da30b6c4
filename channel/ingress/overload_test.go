package ingress_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/faultbackend"
)

func TestBackendThatTakesNothingIs503AndSaysWhenToComeAgain(t *testing.T) {
	t.Parallel()
	fail := func(op faultbackend.Op, err error) func(*fixture) {
		return func(f *fixture) {
			f.faults.SetPlan(faultbackend.Script(faultbackend.Rule{
				Op: op, First: 1, Last: -1, Fault: faultbackend.Fault{Do: faultbackend.Fail, Err: err},
			}))
		}
	}
	tests := []struct {
		name       string
		trouble    func(*fixture)
		status     int
		retryAfter string
		text       string
	}{
		{"full, as Room says", fail(faultbackend.Room, backend.ErrFull), 503, "5", "full"},
		{"full, as Publish says", fail(faultbackend.Publish, backend.ErrFull), 503, "5", "full"},
		{"cut off", func(f *fixture) { f.memory.Cut() }, 503, "1", "did not confirm"},
		{"sealed", func(f *fixture) {
			if err := f.memory.Seal(context.Background(), "ns/a"); err != nil {
				f.t.Fatal(err)
			}
		}, 503, "1", "did not confirm"},
		{"closed", func(f *fixture) { f.memory.Kill() }, 503, "1", "did not confirm"},
		{"an error of no name", fail(faultbackend.Publish, errors.New("secret inside")), 503, "1", "did not confirm"},
		{"the log is gone", fail(faultbackend.Publish, backend.ErrNotFound), 404, "", "removed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				tt.trouble(f)
				a := f.call(t.Context(), "data")
				a.want(t, tt.status, tt.retryAfter, tt.text)
				if strings.Contains(a.text, "secret") || strings.Contains(a.text, "fault") {
					t.Errorf("the answer tells of the inside: %q", a.text)
				}
				f.wantBudgetFree()
			})
		})
	}
}

// A full backend refuses before the body is taken in.
func TestFullBackendIsToldBeforeTheBodyIsRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(s *setup) { s.store.MaxBytes = 100 }).serve()
	f.post(strings.Repeat("x", 100), nil).want(t, http.StatusAccepted, "")
	f.handler.Budget.Force("", f.budget.Total()) // reading would have to wait
	defer f.handler.Budget.Release("", f.budget.Total())
	f.post("data", nil).want(t, http.StatusServiceUnavailable, "5", "full")
	f.wantStored(1)
}

func TestPauseOfTheBackendIsNotSeenByTheClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.memory.Cut()
		time.AfterFunc(time.Second, f.memory.Mend)
		f.call(t.Context(), "data").want(t, http.StatusAccepted, "")
		f.wantStored(1)
	})
}

// The deduplication window is 10 s: a publish that was tried for longer could
// be stored twice.
func TestUnavailableBackendIsReportedWellWithinTheDedupWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.memory.Cut()
		start := time.Now()
		f.call(t.Context(), "data").want(t, http.StatusServiceUnavailable, "1")
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the client waited %v", took)
		}
	})
}

func TestExhaustedBudgetIs503AfterAWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.budget.Force("other", f.budget.Total())
		start := time.Now()
		f.call(t.Context(), "data").want(t, http.StatusServiceUnavailable, "1", "no memory")
		if took := time.Since(start); took != time.Second {
			t.Errorf("it waited %v, want the default of 1s", took)
		}
		f.budget.Release("other", f.budget.Total())
		f.wantBudgetFree()
		f.wantStored(0)
	})
}

func TestBudgetThatBecomesFreeInTimeLetsTheEventIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.budget.Force("other", f.budget.Total())
		time.AfterFunc(500*time.Millisecond, func() { f.budget.Release("other", f.budget.Total()) })
		f.call(t.Context(), "data").want(t, http.StatusAccepted, "")
		f.wantStored(1)
		f.wantBudgetFree()
	})
}

// A body of unknown length is charged as it grows: at no time is there more
// memory in use than was charged.
func TestBudgetRunsOutInTheMiddleOfABody(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(s *setup) { s.bytes = 10 << 10 })
	f.handler.MaxEventBytes = 1 << 20
	f.handler.BudgetWait = time.Millisecond
	f.serve()
	f.post("", func(r *http.Request) {
		r.ContentLength, r.Body = -1, http.NoBody
	}).want(t, http.StatusAccepted, "")
	f.post("", func(r *http.Request) {
		r.ContentLength, r.Body = -1, chunks(strings.Repeat("x", 200<<10))
	}).want(t, http.StatusServiceUnavailable, "1", "no memory")
	f.wantBudgetFree()
	f.wantStored(1)
}
