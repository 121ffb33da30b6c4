package ingress_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend/faultbackend"
)

// witness is a response that tells when it gets its status.
type witness struct {
	*httptest.ResponseRecorder
	status func(int)
}

func (w witness) WriteHeader(status int) {
	w.status(status)
	w.ResponseRecorder.WriteHeader(status)
}

func TestNo202BeforeTheEventIsDurable(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var order []string
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, what)
	}
	g := newGate()
	g.durable = func() { note("durable") }
	f := newFixture(t, g.around)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w := witness{httptest.NewRecorder(), func(s int) { note(http.StatusText(s)) }}
		f.handler.ServeHTTP(w, request(context.Background(), "http://ingress", "data", nil))
	}()
	wait(t, "the publish", g.came)
	f.wantStored(0)
	note("opened")
	close(g.open)
	wait(t, "the answer", done)
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"opened", "durable", "Accepted"}; !slices.Equal(order, want) {
		t.Errorf("it went %q, want %q", order, want)
	}
	f.wantStored(1)
}

// The broker has it, but its word got lost: the publish is tried again, and
// dropped there as a duplicate.
func TestLostConfirmationIsNeither503NorASecondEvent(t *testing.T) {
	t.Parallel()
	f := newFixture(t).serve()
	f.faults.SetPlan(faultbackend.Script(faultbackend.Rule{
		Op: faultbackend.Publish, First: 1, Last: 2, Fault: faultbackend.Fault{Do: faultbackend.LoseConfirmation},
	}))
	f.post("data", nil).want(t, http.StatusAccepted, "")
	if n := f.faults.Calls(faultbackend.Publish); n != 3 {
		t.Errorf("it was published %d times, want 3", n)
	}
	f.wantStored(1)
}

// Knative: the same event posted twice is two events.
func TestSameEventPostedTwiceIsTwoEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t).serve()
	f.post("data", nil).want(t, http.StatusAccepted, "")
	f.post("data", nil).want(t, http.StatusAccepted, "")
	f.wantStored(2)
}
