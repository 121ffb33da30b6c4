package pods

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Between two looks at what has changed there is a pause: when a Deployment rolls,
// much does. It is so long that looking takes a tenth of a processor at most, however
// large the cluster is.
const (
	minPause = 50 * time.Millisecond
	idleness = 9
)

// Watcher finds anew whenever something changes that matters. Its fields are not
// changed once it runs.
type Watcher struct {
	// Cache has the objects; see ByObject.
	Cache cache.Cache
	// ClusterDomain ends the host names of Services, "" means cluster.local.
	ClusterDomain string
	// Self is the pod of the process, as "namespace/name".
	Self string
	// Apply takes what was found. What was found first has all that there was at
	// the start.
	Apply  func(*Found) error
	Logger *slog.Logger

	synced atomic.Bool

	mu    sync.Mutex // guards what follows
	known map[string]client.Object
	dirty chan struct{} // one place

	last    *Found           // what was applied
	refused map[Refusal]bool // logged already
}

// Synced tells whether something was found, and applied.
func (w *Watcher) Synced() bool { return w.synced.Load() }

// Run watches until ctx ends. The Cache must have been started, or be started
// meanwhile.
func (w *Watcher) Run(ctx context.Context) error {
	w.known = make(map[string]client.Object)
	w.dirty = make(chan struct{}, 1)
	var synced []toolscache.InformerSynced
	for _, object := range []client.Object{&corev1.Service{}, &discoveryv1.EndpointSlice{}, &corev1.Pod{}} {
		kind := fmt.Sprintf("%T ", object)
		informer, err := w.Cache.GetInformer(ctx, object)
		if err != nil {
			return fmt.Errorf("watch %s: %w", kind, err)
		}
		registered, err := informer.AddEventHandler(w.handler(kind))
		if err != nil {
			return fmt.Errorf("watch %s: %w", kind, err)
		}
		defer informer.RemoveEventHandler(registered) //nolint:errcheck // the cache ends, too
		synced = append(synced, registered.HasSynced)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil // told to stop
	}
	for {
		began := time.Now()
		w.find()
		pause := max(minPause, idleness*time.Since(began))
		select {
		case <-w.dirty:
		case <-ctx.Done():
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		select {
		case <-w.dirty: // what changed in the pause is found now, too
		default:
		}
	}
}

func (w *Watcher) handler(kind string) toolscache.ResourceEventHandler {
	changed := func(object any) {
		if o, ok := object.(client.Object); ok {
			w.set(kind+key(o.GetNamespace(), o.GetName()), o)
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    changed,
		UpdateFunc: func(_, object any) { changed(object) },
		DeleteFunc: func(object any) {
			if name, err := toolscache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
				w.set(kind+name, nil)
			}
		},
	}
}

// set notes what an object is now, nil for gone.
func (w *Watcher) set(name string, o client.Object) {
	if p, ok := o.(*corev1.Pod); ok {
		if c, _ := sidecarOf(p); c == nil {
			o = nil // it is none of ours; one that had its name may have been
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.known[name]
	if o == nil {
		delete(w.known, name)
	} else {
		w.known[name] = o
	}
	if alike(was, o) {
		return
	}
	select {
	case w.dirty <- struct{}{}:
	default:
	}
}

// alike tells whether two versions of an object differ in nothing that was kept.
func alike(a, b client.Object) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	b = b.DeepCopyObject().(client.Object) //nolint:forcetypeassert // it is a copy of one
	b.SetResourceVersion(a.GetResourceVersion())
	return reflect.DeepEqual(a, b)
}

// find applies what is known now. Changes that come meanwhile are in the next one.
func (w *Watcher) find() {
	f := Find(w.objects(), w.ClusterDomain, w.Self)
	if reflect.DeepEqual(f, w.last) {
		return
	}
	now := make(map[Refusal]bool, len(f.Refusals))
	for _, r := range f.Refusals {
		now[r] = true
		if !w.refused[r] {
			w.Logger.Warn("what was asked for a sidecar's pod is not done", "object", r.Object, "why", r.Why)
		}
	}
	w.refused = now
	if err := w.Apply(f); err != nil {
		w.Logger.Error("what was found of pods cannot be applied; going on as before", "error", err)
		return
	}
	w.last = f
	w.synced.Store(true)
}

func (w *Watcher) objects() (o Objects) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range w.known {
		switch k := k.(type) {
		case *corev1.Service:
			o.Services = append(o.Services, k)
		case *discoveryv1.EndpointSlice:
			o.Slices = append(o.Slices, k)
		case *corev1.Pod:
			o.Pods = append(o.Pods, k)
		}
	}
	return o
}
