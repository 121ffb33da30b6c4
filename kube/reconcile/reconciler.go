package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/swapbackend"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
)

const (
	// drainPoll is how often what drains is looked at.
	drainPoll = 500 * time.Millisecond
	// lagPoll is how often lags are looked at otherwise.
	lagPoll = time.Minute
	// sinkPoll is how often a dead letter sink is resolved anew: it is not
	// watched.
	sinkPoll = 5 * time.Minute
	// leaveWait bounds the wait for dispatchers to let go of a channel whose log
	// is about to be deleted. Who publishes to it later is told that it is gone
	// and goes by the current table: waiting saves work, no more.
	leaveWait = 5 * time.Second
	// startPoll is how often a channel is looked at that waits for what is in effect.
	startPoll = 100 * time.Millisecond
	// endPoll is how often one is looked at whose namespace is being deleted.
	endPoll = time.Second
	// adminTimeout bounds what one reconciliation asks of the backend.
	adminTimeout = 30 * time.Second
)

// Reconciler makes true what SidestepChannels ask for. Its fields are not changed
// once it runs.
type Reconciler struct {
	// Client reads from a cache; Direct reads from the API server.
	Client client.Client
	Direct client.Reader
	// Backend is made of those in effect, once there are some.
	Backend func(ctx context.Context) (*swapbackend.Backend, error)
	// Settings in effect.
	Settings func(ctx context.Context) (Settings, error)
	// CACerts of the dispatchers' certificate, nil where there is none.
	CACerts func(ctx context.Context) (*string, error)
	Roll    *Roll
	// Changed has all channels looked at; nil: never.
	Changed <-chan event.TypedGenericEvent[*corev1.ConfigMap]
	Events  events.EventRecorder
	// Discarded counts records that were left when something was removed.
	Discarded prometheus.Counter
	// Dispatcher is the host name of the dispatchers' Service.
	Dispatcher, ClusterDomain string
	// Now is the time; nil: time.Now.
	Now func() time.Time

	mu     sync.Mutex
	looked map[types.NamespacedName]time.Time // at lags
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	c := new(v1alpha1.SidestepChannel)
	if err := r.Client.Get(ctx, req.NamespacedName, c); err != nil {
		r.forget(req.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	s, err := r.Settings(ctx)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("read settings: %w", err)
	}
	if s.Starting {
		return ctrl.Result{RequeueAfter: startPoll}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	w := &work{Reconciler: r, c: c.DeepCopy(), stored: c, settings: &s, now: r.now()}
	if !c.DeletionTimestamp.IsZero() {
		err = w.remove(ctx)
	} else {
		err = w.keep(ctx)
	}
	return outcome(ctx, w.again, err)
}

// outcome of a reconciliation that is to be repeated after a while (0: when something
// changes), or ended with an error. What is not a failure is not told as one.
func outcome(ctx context.Context, again time.Duration, err error) (ctrl.Result, error) {
	switch {
	case err == nil:
		return ctrl.Result{RequeueAfter: again}, nil
	case apierrors.IsConflict(err) || errors.Is(err, errBehind):
		// The cache is behind; what is newer is on its way.
		log.FromContext(ctx).V(1).Info("the object has changed meanwhile", "error", err.Error())
		return ctrl.Result{RequeueAfter: 20 * time.Millisecond}, nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		// The channel goes with its namespace, if a moment later.
		log.FromContext(ctx).V(1).Info("the namespace is being deleted", "error", err.Error())
		return ctrl.Result{RequeueAfter: endPoll}, nil
	}
	return ctrl.Result{}, err
}

func (r *Reconciler) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

// forget a channel that is gone.
func (r *Reconciler) forget(key types.NamespacedName) {
	r.Roll.Done(key)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.looked, key)
}

// due tells whether a channel's lags are to be looked at again, and notes that
// they are.
func (r *Reconciler) due(key types.NamespacedName, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.looked[key]) < lagPoll/2 {
		return false
	}
	if r.looked == nil {
		r.looked = make(map[types.NamespacedName]time.Time)
	}
	r.looked[key] = now
	return true
}

// work is one reconciliation of a channel.
type work struct {
	*Reconciler
	c *v1alpha1.SidestepChannel
	// stored is c as the API server has it.
	stored   *v1alpha1.SidestepChannel
	settings *Settings
	now      time.Time
	admin    *swapbackend.Backend
	// again is when the channel has to be looked at next, 0 for never.
	again time.Duration
}

func (w *work) key() types.NamespacedName { return client.ObjectKeyFromObject(w.c) }

func (w *work) log() string { return w.c.Namespace + "/" + w.c.Name }

// soon has the channel looked at in d, if not sooner.
func (w *work) soon(d time.Duration) {
	if w.again == 0 || d < w.again {
		w.again = d
	}
}

// keep makes true what a channel that is to be asks for. What fails is in a
// condition, and is tried again; what does not depend on it is done.
func (w *work) keep(ctx context.Context) error {
	if err := w.adopt(ctx); err != nil {
		return err
	}
	w.c.Conditions().InitializeConditions()
	w.c.Status.ObservedGeneration = w.c.Generation
	w.configured()
	err := w.store(ctx)
	if apierrors.IsConflict(err) || errors.Is(err, errBehind) {
		return err
	}
	err = errors.Join(err, w.reach(ctx), w.deadLetterSink(ctx), w.policies(ctx))
	w.attend(ctx)
	return errors.Join(err, w.save(ctx))
}

// adopt puts on the object what it has to carry.
func (w *work) adopt(ctx context.Context) error {
	if controllerutil.ContainsFinalizer(w.c, Finalizer) && w.c.Annotations[subscribable] == "v1" {
		return nil
	}
	controllerutil.AddFinalizer(w.c, Finalizer)
	if w.c.Annotations == nil {
		w.c.Annotations = map[string]string{}
	}
	w.c.Annotations[subscribable] = "v1"
	return w.patch(ctx)
}

// patch writes the metadata.
func (w *work) patch(ctx context.Context) error {
	status := w.c.Status
	p := client.MergeFromWithOptions(w.stored, client.MergeFromWithOptimisticLock{})
	if err := w.Client.Patch(ctx, w.c, p); err != nil {
		return fmt.Errorf("patch channel: %w", err)
	}
	w.stored = w.c.DeepCopy()
	w.c.Status = status
	return nil
}

// save writes the status, if it has changed. It fails if the object is newer than
// what the status was made from.
func (w *work) save(ctx context.Context) error {
	if equality.Semantic.DeepEqual(w.stored.Status, w.c.Status) {
		return nil
	}
	was := w.stored.Conditions().IsHappy()
	p := client.MergeFromWithOptions(w.stored, client.MergeFromWithOptimisticLock{})
	if err := w.Client.Status().Patch(ctx, w.c, p); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	w.stored = w.c.DeepCopy()
	if is := w.c.Conditions().IsHappy(); is && !was {
		w.event(normal, "Ready", "Ready to take events at %s", w.c.Status.Address.URL)
	}
	return nil
}

func (w *work) configured() {
	if p := w.settings.Problem; p != nil {
		reason := "ConfigRefused"
		if errors.Is(p, ErrNoVolume) {
			reason = "NoVolume"
		}
		w.c.Conditions().MarkFalse(v1alpha1.ConditionConfigured, reason,
			"config-sidestep cannot be put into effect, the last one that could be is: %v", p)
		return
	}
	_ = w.c.Conditions().ClearCondition(v1alpha1.ConditionConfigured)
}

// store brings the log and its groups to what spec.subscribers wants.
func (w *work) store(ctx context.Context) (err error) {
	manage := w.c.Conditions()
	defer func() {
		if err == nil {
			manage.MarkTrue(v1alpha1.ConditionBackendReady)
			return
		}
		manage.MarkFalse(v1alpha1.ConditionBackendReady, reasonOf(err), "%v", err)
	}()
	if err := w.locate(ctx); err != nil {
		return err
	}
	if w.c.Status.Backend == "" || w.c.Status.Place == nil {
		if _, err := w.admin.EnsureLog(ctx, w.description()); err != nil {
			return err
		}
		w.setPlace(w.place())
	}
	next, changed := positions(w.c, w.now)
	w.c.Status.Positions = next
	if w.endEarlyDeletion() || changed {
		// Before a group is made, and before one is believed to be needed no
		// more: it is to be found again whatever happens.
		if err := w.save(ctx); err != nil {
			return err
		}
	}
	if err := w.makeGroups(ctx); err != nil {
		return err
	}
	if err := w.retire(ctx); err != nil {
		return err
	}
	if err := w.move(ctx); err != nil {
		return err
	}
	return w.lags(ctx)
}

func (w *work) description() backend.Log {
	return backend.Log{Name: w.log(), Ordered: w.c.Spec.Ordering == v1alpha1.PerKey}
}

func (w *work) makeGroups(ctx context.Context) error {
	made, may := false, w.mayMakeGroups()
	for i := range w.c.Status.Positions {
		p := &w.c.Status.Positions[i]
		if p.State != v1alpha1.Pending || !may {
			continue
		}
		err := w.admin.EnsureGroup(ctx, w.log(), backend.Group{Name: string(p.Subscriber.UID)})
		if errors.Is(err, backend.ErrNotFound) {
			// Somebody has removed the log beneath us.
			w.c.Status.Backend, w.c.Status.Place = "", nil
		}
		if err != nil {
			return err
		}
		p.State, made = v1alpha1.Active, true
	}
	if made || w.stored.Status.Backend != w.c.Status.Backend {
		return w.save(ctx) // dispatchers wait for it
	}
	return nil
}

// retire moves on what has left spec.subscribers.
func (w *work) retire(ctx context.Context) error {
	ps := w.c.Status.Positions
	left := make(map[types.UID]int64)
	for i := range ps {
		if ps[i].State != v1alpha1.Draining {
			continue
		}
		lag, err := w.admin.Lag(ctx, w.log(), string(ps[i].Subscriber.UID))
		if err != nil && !errors.Is(err, backend.ErrNotFound) {
			return err
		}
		left[ps[i].Subscriber.UID] = lag.Records
	}
	if age(ps, left, w.now, w.settings.State.Config.Dispatch.DrainOnDelete) {
		if err := w.save(ctx); err != nil {
			return err
		}
	}
	if err := w.deleteGroups(ctx); err != nil {
		return err
	}
	if d := nextLook(w.c.Status.Positions, w.now); d > 0 {
		w.soon(d)
	}
	return nil
}

// deleteGroups of positions that no dispatcher works with any more.
func (w *work) deleteGroups(ctx context.Context) error {
	if !slices.ContainsFunc(w.c.Status.Positions, isLeaving) {
		return nil
	}
	f := w.Roll.Await(w.key(), w.want())
	if f == nil {
		return nil
	}
	var discarded int64
	kept := make([]v1alpha1.Position, 0, len(w.c.Status.Positions))
	for _, p := range w.c.Status.Positions {
		uid := p.Subscriber.UID
		if !isLeaving(p) || f.lingering[uid] {
			kept = append(kept, p)
			continue
		}
		lag, err := w.admin.Lag(ctx, w.log(), string(uid))
		if err != nil && !errors.Is(err, backend.ErrNotFound) {
			return err
		}
		if err := w.admin.DeleteGroup(ctx, w.log(), string(uid)); err != nil && !errors.Is(err, backend.ErrNotFound) {
			return err
		}
		if lag.Records > 0 {
			discarded += lag.Records
			w.event(warning, "RecordsDiscarded", "Subscription %s was removed; %d records that it had yet to settle are discarded",
				nameOf(&p.Subscriber), lag.Records)
		}
	}
	if len(kept) == len(w.c.Status.Positions) {
		return nil
	}
	w.c.Status.Positions = kept
	if err := w.save(ctx); err != nil {
		return err
	}
	w.Discarded.Add(float64(discarded))
	w.soon(drainPoll) // one that has come back is made anew
	return nil
}

func isLeaving(p v1alpha1.Position) bool { return p.State == v1alpha1.Leaving }

// lags looks at what has yet to be settled, from time to time.
func (w *work) lags(ctx context.Context) error {
	w.soon(lagPoll)
	status := &w.c.Status
	if len(status.Positions) > 0 && !w.due(w.key(), w.now) {
		return nil
	}
	var most int64
	status.OldestUnsettled = nil
	for i := range status.Positions {
		p := &status.Positions[i]
		if !p.Delivered() {
			continue
		}
		lag, err := w.admin.Lag(ctx, w.log(), string(p.Subscriber.UID))
		if errors.Is(err, backend.ErrNotFound) {
			// Somebody has removed the group beneath us: it is made anew.
			p.State = v1alpha1.Pending
			w.soon(drainPoll)
			continue
		}
		if err != nil {
			return err
		}
		most = max(most, lag.Records)
		status.OldestUnsettled = oldest(status.OldestUnsettled, lag.Oldest)
	}
	status.Lag = &most
	return nil
}
