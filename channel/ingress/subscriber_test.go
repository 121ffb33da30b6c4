package ingress_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
)

// subscriber is a step: it keeps the requests that come to it.
type subscriber struct{ requests chan delivered }

type delivered struct {
	header http.Header
	body   string
}

// subscribe has the events of channel ns/a delivered to a real step.
func (f *fixture) subscribe() *subscriber {
	f.t.Helper()
	s := &subscriber{requests: make(chan delivered, 64)}
	step := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.requests <- delivered{r.Header, string(b)}
		w.WriteHeader(http.StatusAccepted)
	}))
	f.t.Cleanup(step.Close)
	c := aChannel()
	c.Subscriptions = []*channel.Subscription{{
		UID: group, Namespace: "ns", Name: "sub", Subscriber: &egress.Target{URL: step.URL},
	}}
	f.apply(c, goneChannel())
	return s
}

func (s *subscriber) next(t *testing.T) delivered {
	t.Helper()
	select {
	case d := <-s.requests:
		return d
	case <-time.After(patience):
		t.Fatal("no event came to the subscriber")
		return delivered{}
	}
}
