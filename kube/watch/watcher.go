package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"knative.dev/eventing/pkg/apis/feature"
	"knative.dev/eventing/pkg/eventingtls"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend/swapbackend"
	"github.com/sidestep-dev/sidestep/internal/rollcall"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
)

// Applier takes the tables; *channel.Dispatcher is one.
type Applier interface {
	Apply(t *channel.Table) (uint64, error)
}

// Places takes where logs are; *swapbackend.Backend is one.
type Places interface {
	// Set fails if the log's backends are not all open.
	Set(log string, p swapbackend.Place) error
	Leave(log string)
}

// Watcher keeps a dispatcher's table as the API server's objects say. Its fields
// are not changed once it runs.
type Watcher struct {
	// Cache has the objects; ConfigMaps only of the system namespace.
	Cache   cache.Cache
	Applier Applier
	Roll    *rollcall.Roll
	// Places is told where the logs of a table are before it is applied; may be nil.
	Places Places
	// Options of the tables. ShortCircuit, if set, is asked for each.
	Options      Options
	ShortCircuit func() channel.ShortCircuit
	// Trust, if set, is called when what everybody trusts may have changed.
	Trust  func()
	Logger *slog.Logger

	synced   atomic.Bool
	features atomic.Pointer[feature.Flags]
	channels atomic.Pointer[map[string]*v1alpha1.SidestepChannel]

	mu    sync.Mutex // guards what follows
	known map[string]*v1alpha1.SidestepChannel
	dirty chan struct{} // one place
	once  sync.Once     // makes dirty

	placed   map[string]bool   // channels in the table whose place was taken
	problems map[string]string // logged already, by subscription
}

// Synced tells whether a table with all that there was at the start was applied:
// only then is the replica fit to take events.
func (w *Watcher) Synced() bool { return w.synced.Load() }

// Features are what config-features says, never nil.
func (w *Watcher) Features() feature.Flags {
	if f := w.features.Load(); f != nil {
		return *f
	}
	return feature.Flags{}
}

// Channel is the object of a channel in the current table, nil if there is none.
// It must not be changed.
func (w *Watcher) Channel(key string) *v1alpha1.SidestepChannel {
	if m := w.channels.Load(); m != nil {
		return (*m)[key]
	}
	return nil
}

// Run watches until ctx ends. The Cache must have been started, or be started
// meanwhile.
func (w *Watcher) Run(ctx context.Context) error {
	w.known = make(map[string]*v1alpha1.SidestepChannel)
	w.placed = make(map[string]bool)
	w.problems = make(map[string]string)
	var synced []toolscache.InformerSynced
	for _, on := range []struct {
		object client.Object
		set    func(key string, object any)
	}{
		{&v1alpha1.SidestepChannel{}, w.setChannel},
		{&corev1.ConfigMap{}, w.setConfigMap},
	} {
		informer, err := w.Cache.GetInformer(ctx, on.object)
		if err != nil {
			return fmt.Errorf("watch %T: %w", on.object, err)
		}
		registered, err := informer.AddEventHandler(w.handler(on.set))
		if err != nil {
			return fmt.Errorf("watch %T: %w", on.object, err)
		}
		defer informer.RemoveEventHandler(registered) //nolint:errcheck // the cache ends, too
		synced = append(synced, registered.HasSynced)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil // told to stop
	}
	for {
		if err := w.apply(); err != nil && !errors.Is(err, channel.ErrStopped) {
			// A table that contradicts itself. What was is kept.
			w.Logger.Error("the table cannot be applied; going on as before", "error", err)
		}
		w.synced.Store(true)
		select {
		case <-w.pending():
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *Watcher) handler(set func(key string, object any)) toolscache.ResourceEventHandler {
	changed := func(object any) {
		key, err := toolscache.MetaNamespaceKeyFunc(object)
		if err != nil {
			return
		}
		set(key, object)
		w.Mark()
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    changed,
		UpdateFunc: func(_, object any) { changed(object) },
		DeleteFunc: func(object any) {
			key, err := toolscache.DeletionHandlingMetaNamespaceKeyFunc(object)
			if err != nil {
				return
			}
			set(key, nil)
			w.Mark()
		},
	}
}

// Mark has the table be made anew: what it is made of, beside objects, has changed.
func (w *Watcher) Mark() {
	select {
	case w.pending() <- struct{}{}:
	default:
	}
}

func (w *Watcher) pending() chan struct{} {
	w.once.Do(func() { w.dirty = make(chan struct{}, 1) })
	return w.dirty
}

func (w *Watcher) setChannel(key string, object any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c, ok := object.(*v1alpha1.SidestepChannel); ok {
		w.known[key] = c
	} else {
		delete(w.known, key)
	}
}

func (w *Watcher) setConfigMap(key string, object any) {
	cm, _ := object.(*corev1.ConfigMap)
	_, name, err := toolscache.SplitMetaNamespaceKey(key)
	if err != nil {
		return
	}
	switch name {
	case FeaturesName:
		var data map[string]string
		if cm != nil {
			data = cm.Data
		}
		flags, err := feature.NewFlagsConfigFromMap(data)
		if err != nil {
			w.Logger.Error("config-features cannot be used; going on with the last one that could", "error", err)
			return
		}
		w.features.Store(&flags)
	default:
		if w.Trust != nil && (cm == nil || cm.Labels[eventingtls.TrustBundleLabelKey] == eventingtls.TrustBundleLabelValue) {
			w.Trust()
		}
	}
}

// apply makes the table of what is known, and applies it. Changes that come
// meanwhile are in the next one.
func (w *Watcher) apply() error {
	w.mu.Lock()
	known := maps.Clone(w.known)
	w.mu.Unlock()

	o := w.Options
	if w.ShortCircuit != nil {
		o.ShortCircuit = w.ShortCircuit()
	}
	flags := w.Features()
	o.Admits = func(c *v1alpha1.SidestepChannel, from string) bool { return admits(flags, c, from) }
	problems := w.place(known)
	table, entries, more := Table(slices.Collect(maps.Values(known)), o)
	w.report(append(problems, more...))
	epoch, err := w.Applier.Apply(table)
	if err != nil {
		return err
	}
	w.channels.Store(&known)
	w.Roll.Applied(epoch, entries)
	w.leave(known)
	return nil
}

// place tells where the logs are. A channel whose log is where this replica cannot go yet
// stays where it was, or is not in the table yet.
func (w *Watcher) place(known map[string]*v1alpha1.SidestepChannel) (problems []Problem) {
	if w.Places == nil {
		return nil
	}
	for key, c := range known {
		p := c.Status.Place
		if p == nil || !Known(c) {
			continue
		}
		err := w.Places.Set(key, swapbackend.Place{
			Home: p.Home, Next: p.Next, Former: p.Former, Ordered: c.Spec.Ordering == v1alpha1.PerKey,
		})
		if err == nil {
			w.placed[key] = true
			continue
		}
		problems = append(problems, Problem{key, "place/" + key, err})
		if !w.placed[key] {
			delete(known, key)
		}
	}
	return problems
}

// leave forgets where the logs are of channels that are in the table no more.
func (w *Watcher) leave(known map[string]*v1alpha1.SidestepChannel) {
	for key := range w.placed {
		if c := known[key]; c == nil || !Known(c) {
			w.Places.Leave(key)
			delete(w.placed, key)
		}
	}
}

// report logs what is wrong, once.
func (w *Watcher) report(problems []Problem) {
	now := make(map[string]string, len(problems))
	for _, p := range problems {
		text := p.Err.Error()
		if w.problems[p.Subscription] != text {
			w.Logger.Warn("a channel or a subscription cannot be used", "channel", p.Channel, "subscription", p.Subscription, "error", p.Err)
		}
		now[p.Subscription] = text
	}
	w.problems = now
}
