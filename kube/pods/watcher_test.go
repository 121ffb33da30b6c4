package pods

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllertest"
)

// watching is a Watcher that runs, in a bubble of time.
type watching struct {
	*Watcher
	t       *testing.T
	fake    *informertest.FakeInformers
	applied []*Found
	fail    error
	log     bytes.Buffer
}

func watch(t *testing.T, first ...client.Object) *watching {
	t.Helper()
	w := &watching{t: t, fake: new(informertest.FakeInformers)}
	w.Watcher = &Watcher{
		Cache: w.fake, Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
		Apply: func(f *Found) error {
			w.applied = append(w.applied, f)
			return w.fail
		},
	}
	for _, o := range []client.Object{&corev1.Service{}, &discoveryv1.EndpointSlice{}, &corev1.Pod{}} {
		w.informer(o).Synced = false
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	for _, o := range first {
		w.informer(o).Add(o)
	}
	for _, o := range []client.Object{&corev1.Service{}, &discoveryv1.EndpointSlice{}, &corev1.Pod{}} {
		i := w.informer(o)
		i.SyncedLock.Lock()
		i.Synced = true
		i.SyncedLock.Unlock()
	}
	w.settle()
	return w
}

func (w *watching) informer(o client.Object) *controllertest.FakeInformer {
	w.t.Helper()
	i, err := w.fake.FakeInformerFor(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return i
}

// settle lets all happen that will.
func (w *watching) settle() {
	time.Sleep(4 * minPause)
	synctest.Wait()
}

// last is what was applied last, of n times.
func (w *watching) last(n int) *Found {
	w.t.Helper()
	if len(w.applied) != n {
		w.t.Fatalf("applied %d times, want %d", len(w.applied), n)
	}
	return w.applied[n-1]
}

func (t *town) all() []client.Object {
	return []client.Object{t.resize, t.caption, t.resizeSlice, t.captionSlice, t.pod}
}

func TestWhatIsAppliedFirstHasAllThatThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, newTown().all()...)
		if f := w.last(1); len(f.Map.Pods) != 1 || len(f.Map.Pods[0].Ports) != 2 {
			t.Errorf("got %+v", f.Map)
		}
		if !w.Synced() {
			t.Error("is not synced")
		}
	})
}

func TestChangesAreAppliedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		town := newTown()
		w := watch(t, town.all()...)
		out := town.resize.DeepCopy()
		out.Annotations, out.ResourceVersion = map[string]string{ColocateAnnotation: "false"}, "8"
		w.informer(out).Update(town.resize, out)
		other := sidecarPod("pics-1", "uid-1", "10.0.0.8")
		w.informer(other).Add(other)
		more := town.captionSlice.DeepCopy()
		more.Endpoints = append(more.Endpoints, endpointOf(other))
		w.informer(more).Update(town.captionSlice, more)
		w.settle()
		if f := w.last(2); len(f.Map.Pods) != 2 || len(f.Map.Pods[0].Ports) != 1 {
			t.Errorf("got %+v", f.Map)
		}
		w.informer(other).Delete(&corev1.Pod{ObjectMeta: other.ObjectMeta})
		w.settle()
		if f := w.last(3); len(f.Map.Pods) != 1 {
			t.Errorf("got %+v", f.Map)
		}
	})
}

// TestADeletionThatWasMissedCounts: an informer that was away tells of it with what
// it had last.
func TestADeletionThatWasMissedCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		town := newTown()
		w := watch(t, town.all()...)
		w.informer(town.pod)
		w.handler("*v1.Pod ").OnDelete(toolscache.DeletedFinalStateUnknown{Key: "n/pics-0", Obj: town.pod})
		w.settle()
		if f := w.last(2); len(f.Map.Pods) != 0 {
			t.Errorf("got %+v", f.Map)
		}
	})
}

func TestWhatChangesNothingIsNotApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		town := newTown()
		w := watch(t, town.all()...)
		beat := town.pod.DeepCopy()
		beat.ResourceVersion = "9"
		w.informer(beat).Update(town.pod, beat)
		plain := sidecarPod("web-0", "uid-2", "10.0.0.9")
		plain.Spec.InitContainers = nil
		w.informer(plain).Add(plain)
		away := town.resizeSlice.DeepCopy() // of a Service that has no sidecar
		away.Name, away.Endpoints = "web-x", nil
		w.informer(away).Add(away)
		w.settle()
		w.last(1)
	})
}

// TestAPodThatIsMadeAnewWithoutASidecarIsForgotten: a StatefulSet's pods keep their
// names.
func TestAPodThatIsMadeAnewWithoutASidecarIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		town := newTown()
		w := watch(t, town.all()...)
		plain := town.pod.DeepCopy()
		plain.UID, plain.Spec.InitContainers = "uid-9", nil
		w.informer(plain).Update(town.pod, plain)
		w.settle()
		if f := w.last(2); len(f.Map.Pods) != 0 {
			t.Errorf("got %+v", f.Map)
		}
	})
}

func TestARefusalIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		town := newTown()
		town.pod.Spec.HostNetwork = true
		w := watch(t, town.all()...)
		renamed := town.resize.DeepCopy()
		renamed.Annotations = map[string]string{PayloadAnnotation: "reference"}
		w.informer(renamed).Update(town.resize, renamed)
		w.settle()
		w.last(2)
		if n := strings.Count(w.log.String(), "network of its host"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, &w.log)
		}
	})
}

func TestWhatCannotBeAppliedIsTriedAgainWithTheNextChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		town := newTown()
		w := watch(t)
		w.fail = errors.New("no")
		for _, o := range town.all() {
			w.informer(o).Add(o)
		}
		w.settle()
		w.last(2)
		w.fail = nil
		more := town.resize.DeepCopy()
		more.Spec.Ports[0].Name = "other"
		w.informer(more).Update(town.resize, more)
		w.informer(more).Update(more, town.resize)
		w.settle()
		if f := w.last(3); len(f.Map.Pods) != 1 {
			t.Errorf("got %+v", f.Map)
		}
	})
}
