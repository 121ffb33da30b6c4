package reconcile

import (
	"context"
	"errors"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
	"github.com/sidestep-dev/sidestep/kube/watch"
)

// remove drains a channel that was deleted, and then removes its log. Dispatchers
// have it in their tables, taking nothing from outside, until status.backend is
// empty.
func (w *work) remove(ctx context.Context) error {
	if !controllerutil.ContainsFinalizer(w.c, Finalizer) {
		w.forget(w.key())
		return nil
	}
	if err := w.locate(ctx); err != nil {
		w.c.Conditions().MarkFalse(v1alpha1.ConditionDrained, reasonOf(err), "the log cannot be removed: %v", err)
		return errors.Join(err, w.save(ctx))
	}
	if w.c.Status.Backend != "" {
		done, err := w.drain(ctx)
		if err != nil || !done {
			return errors.Join(err, w.save(ctx))
		}
	}
	w.c.Conditions().MarkTrue(v1alpha1.ConditionDrained) // nothing was in it, or nothing is
	if err := w.save(ctx); err != nil {
		return err
	}
	f := w.Roll.Await(w.key(), want{uid: w.c.UID})
	drained := w.c.Conditions().GetCondition(v1alpha1.ConditionDrained)
	waited := drained.IsTrue() && w.now.Sub(drained.LastTransitionTime.Inner.Time) > leaveWait
	if (f == nil || f.present != "") && !waited {
		w.soon(time.Second)
		return nil // the Roll has it looked at again
	}
	if err := w.admin.DeleteLog(ctx, w.log()); err != nil {
		return err
	}
	controllerutil.RemoveFinalizer(w.c, Finalizer)
	if err := w.patch(ctx); client.IgnoreNotFound(err) != nil {
		return err
	}
	w.forget(w.key())
	return nil
}

// drain tells whether the channel has drained, or had its time, and has then left
// the tables.
func (w *work) drain(ctx context.Context) (bool, error) {
	until := w.c.DeletionTimestamp.Add(w.settings.State.Config.Dispatch.DrainOnDelete)
	manage := w.c.Conditions()
	// In this order: once nothing comes in any more, what is counted is all
	// there will be.
	fed, err := w.fed(ctx)
	if err != nil {
		return false, err
	}
	f := w.Roll.Await(w.key(), want{uid: w.c.UID})
	open := f == nil || f.unclosed != ""
	var left int64
	for i := range w.c.Status.Positions {
		p := &w.c.Status.Positions[i]
		if !p.Delivered() {
			continue
		}
		lag, err := w.admin.Lag(ctx, w.log(), string(p.Subscriber.UID))
		if err != nil && !errors.Is(err, backend.ErrNotFound) {
			return false, err
		}
		left += lag.Records
	}
	if (left > 0 || fed != "" || open) && w.now.Before(until) {
		switch {
		case left > 0:
			manage.MarkFalse(v1alpha1.ConditionDrained, "Draining", "records to settle are left; they are discarded at %s", until.UTC().Format(time.RFC3339))
		case fed != "":
			manage.MarkFalse(v1alpha1.ConditionDrained, "Draining", "channel %s still leads here", fed)
		case f != nil:
			manage.MarkFalse(v1alpha1.ConditionDrained, "Draining", "%s", f.unclosed)
		}
		w.soon(drainPoll)
		return false, nil
	}
	if left > 0 {
		w.event(warning, "RecordsDiscarded", "Removed before it was drained: %d records are discarded", left)
	}
	manage.MarkTrue(v1alpha1.ConditionDrained)
	w.c.Status.Backend = ""
	if err := w.save(ctx); err != nil {
		return true, err
	}
	w.Discarded.Add(float64(left))
	return true, nil
}

// fed is a channel whose subscriptions hand their answers, or their dead letters,
// to this one, "" if there is none: a flow is drained from its beginning.
func (w *work) fed(ctx context.Context) (string, error) {
	var all v1alpha1.SidestepChannelList
	if err := w.Client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return "", err
	}
	list := make([]*v1alpha1.SidestepChannel, len(all.Items))
	for i := range all.Items {
		list[i] = &all.Items[i]
	}
	table, _, _ := watch.Table(list, watch.Options{ClusterDomain: w.ClusterDomain, Dispatcher: w.Dispatcher})
	for _, c := range table.Channels {
		if c.Namespace == w.c.Namespace && c.Name == w.c.Name {
			continue
		}
		for _, s := range c.Subscriptions {
			if s.Reply != nil && s.Reply.Channel == w.log() || s.DeadLetter != nil && s.DeadLetter.Channel == w.log() {
				return watch.Key(c.Namespace, c.Name), nil
			}
		}
	}
	return "", nil
}
