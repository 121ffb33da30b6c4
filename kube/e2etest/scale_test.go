package e2etest

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Many Sequences become ready and deliver. How long that takes, beside the same on
// InMemoryChannel, is told and not judged: machines differ, and so do moments.
func TestManySequencesBecomeReadyAndDeliver(t *testing.T) {
	n := 200
	if v := os.Getenv("SEQUENCES"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			t.Fatal("SEQUENCES:", err)
		}
	}
	const steps = 5
	took := map[string]time.Duration{}
	for _, kind := range []struct{ apiVersion, name string }{
		{"messaging.knative.dev/v1", "InMemoryChannel"},
		{"messaging.sidestep.dev/v1alpha1", "SidestepChannel"},
	} {
		t.Run(kind.name, func(t *testing.T) {
			s := newScene(t)
			s.part("step", "answer", "--name", "s")
			s.part("end", "collect")
			channels := s.watch(object(kind.apiVersion, kind.name, s.ns, ""))
			sequences := s.watch(object("flows.knative.dev/v1", "Sequence", s.ns, ""))
			begin := time.Now()
			var urls []string
			for i := range n {
				s.apply(many(fmt.Sprintf("m%d", i), kind.apiVersion, kind.name, steps))
			}
			// On a busy machine InMemoryChannel's take seconds each.
			s.awaitFor(guard+time.Duration(n)*5*time.Second, "all Sequences to be ready", func() error {
				if got := sequences.count(); got < n {
					return fmt.Errorf("%d of %d are", got, n)
				}
				return nil
			})
			took[kind.name] = sequences.last().Sub(begin)
			own := channels.took()
			t.Logf("%d Sequences of %d steps were ready after %.1fs; one channel from its making: p50 %.2fs, p99 %.2fs",
				n, steps, took[kind.name].Seconds(), own[len(own)/2].Seconds(), own[len(own)*99/100].Seconds())

			l := &unstructured.UnstructuredList{}
			l.SetAPIVersion("flows.knative.dev/v1")
			l.SetKind("SequenceList")
			if err := s.api.List(s.ctx, l, client.InNamespace(s.ns)); err != nil {
				t.Fatal(err)
			}
			for _, u := range l.Items {
				urls = append(urls, text(&u, "status", "address", "url"))
			}
			s.deliverTo(urls, steps)
		})
	}
	if ours, theirs := took["SidestepChannel"], took["InMemoryChannel"]; ours > 0 && theirs > 0 {
		t.Logf("SidestepChannel took %.2f x the time of InMemoryChannel", ours.Seconds()/theirs.Seconds())
	}
}

func many(name, apiVersion, kind string, steps int) string {
	y := fmt.Sprintf(`
apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: %s}
spec:
  channelTemplate: {apiVersion: %s, kind: %s}
  reply: {ref: {apiVersion: v1, kind: Service, name: end}}
  steps:
`, name, apiVersion, kind)
	for range steps {
		y += "  - ref: {apiVersion: v1, kind: Service, name: step}\n"
	}
	return y
}

// deliverTo posts one event to each address, and waits until all are at the end.
func (s *scene) deliverTo(urls []string, steps int) {
	s.t.Helper()
	args := []string{}
	for _, u := range urls {
		args = append(args, "--to", u)
	}
	s.part("client", "post", append(args, "--every", "5ms", "--events", strconv.Itoa(len(urls)))...)
	f := &flow{scene: s}
	s.await("the events to be posted", func() error {
		if p := f.posted(); len(p.Accepted) < len(urls) {
			return fmt.Errorf("%d of %d were accepted; others: %v", len(p.Accepted), len(urls), p.Refused)
		}
		return nil
	})
	for id, a := range f.stop().Came {
		if len(a.Way) != steps {
			s.t.Errorf("event %s went the way %q, want %d steps", id, a.Way, steps)
		}
	}
}

// watched is when objects of a kind were first seen, and first seen ready.
type watched struct {
	mu          sync.Mutex
	made, ready map[types.UID]time.Time
}

// watch watches the objects of a kind until the test ends.
func (s *scene) watch(kind *unstructured.Unstructured) *watched {
	s.t.Helper()
	conf, err := ctrl.GetConfig()
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := client.NewWithWatch(conf, client.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	l := &unstructured.UnstructuredList{}
	l.SetAPIVersion(kind.GetAPIVersion())
	l.SetKind(kind.GetKind() + "List")
	ctx, stop := context.WithCancel(s.ctx)
	w, err := c.Watch(ctx, l, client.InNamespace(s.ns))
	if err != nil {
		stop()
		s.t.Fatal(err)
	}
	seen := &watched{made: map[types.UID]time.Time{}, ready: map[types.UID]time.Time{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range w.ResultChan() {
			if u, ok := e.Object.(*unstructured.Unstructured); ok && e.Type != watch.Deleted {
				seen.see(u)
			}
		}
	}()
	s.t.Cleanup(func() {
		stop()
		w.Stop()
		<-done
	})
	return seen
}

func (w *watched) see(u *unstructured.Unstructured) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.made[u.GetUID()]; !ok {
		w.made[u.GetUID()] = time.Now()
	}
	if _, ok := w.ready[u.GetUID()]; !ok && readyError(u) == nil {
		w.ready[u.GetUID()] = time.Now()
	}
}

func (w *watched) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ready)
}

// last is when the last became ready.
func (w *watched) last() (t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range w.ready {
		if at.After(t) {
			t = at
		}
	}
	return t
}

// took is how long each took from first to ready, in order.
func (w *watched) took() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []time.Duration
	for id, at := range w.ready {
		all = append(all, at.Sub(w.made[id]))
	}
	slices.Sort(all)
	return all
}
