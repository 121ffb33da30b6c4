package colocate

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/colocate/sidecar"
	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// A Knative Service is asked who it is when there is a chain for it, and no sooner. Paths
// name its steps, whether a chain runs there or a step is called by its address.
func TestStepsOfOneAddressAreNamedByThePath(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	p := startPod(t, "ns/pics", func(c *sidecar.Config) {
		c.Names = map[string]uint16{"a": w.steps[0].port, "b": w.steps[1].port}
	}, w.steps...)
	host := HostOf(p.url)
	w.m = Map{
		Services: []Service{{Name: "ns/pics/a", Hosts: []string{host + "/a"}}, {Name: "ns/pics/b", Hosts: []string{host + "/b"}}},
		Pods: []Pod{{
			ID: "ns/pics", UID: "ns/pics", Namespace: "ns", Sidecar: p.url, OnDemand: true,
			Ports: map[string]uint16{"ns/pics/a": w.steps[0].port, "ns/pics/b": w.steps[1].port},
		}},
	}
	for i, name := range []string{"/a", "/b/more?q=1"} {
		w.seq[i].Subscriptions[0].Subscriber = &egress.Target{URL: p.url + name}
	}
	w.apply()
	w.publish(ev("1"))
	w.settled()
	wantStoryInAnyOrder(t, w, "step a plain stored 200; reply a plain stored 202; step b plain stored 200: replied completed")
	w.eventually("it is asked, and used", func() bool { return fmt.Sprint(w.usable()) == "[ns/pics]" })
	w.publish(ev("2"))
	w.settled()
	wantStory(t, w, "step a ns/pics stored 200; step b ns/pics colocated 200: completed")
	for i, want := range []string{"/", "/more?q=1"} {
		calls := w.steps[i].calls()
		if len(calls) != 2 {
			t.Fatalf("step %d was called %d times", i, len(calls))
		}
		plain, pod := calls[0], calls[1]
		if plain.URL.String() != want || pod.URL.String() != want || plain.Host != host || pod.Host != host {
			t.Errorf("step %d was called at %s%s, and in a chain at %s%s; want %s%s", i, plain.Host, plain.URL, pod.Host, pod.URL, host, want)
		}
	}
}

func TestAnAddressThatDoesNotAnswerWellIsAskedAgainWithTheNextChain(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	step := newStep(t, "any")
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.HandshakePath {
			asked.Add(1)
			rw.WriteHeader(http.StatusNotFound)
			return
		}
		step.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	w := newTown(t, "a", "b")
	host := HostOf(server.URL)
	w.m = Map{
		Services: []Service{{Name: "ns/pics/a", Hosts: []string{host + "/a"}}, {Name: "ns/pics/b", Hosts: []string{host + "/b"}}},
		Pods:     []Pod{{ID: "ns/pics", Namespace: "ns", Sidecar: server.URL, OnDemand: true, Ports: map[string]uint16{"ns/pics/a": 1, "ns/pics/b": 2}}},
	}
	for i, name := range []string{"/a", "/b"} {
		w.seq[i].Subscriptions[0].Subscriber = &egress.Target{URL: server.URL + name}
	}
	w.apply()
	if n := asked.Load(); n != 0 {
		t.Errorf("asked %d times before there was a chain", n)
	}
	w.publish(ev("1"))
	w.settled()
	w.eventually("it is asked", func() bool { return asked.Load() > 0 })
	w.pods.mu.Lock()
	d := w.pods.pods["ns/pics"]
	d.cancel() // its time is over
	w.pods.mu.Unlock()
	w.eventually("nobody asks any more", func() bool {
		w.pods.mu.Lock()
		defer w.pods.mu.Unlock()
		return d.cancel == nil
	})
	n := asked.Load()
	w.publish(ev("2"))
	w.settled()
	w.eventually("it is asked again", func() bool { return asked.Load() > n })
}
