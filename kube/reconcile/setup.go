package reconcile

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	eventingv1alpha1 "knative.dev/eventing/pkg/apis/eventing/v1alpha1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	ctrlreconcile "sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
)

// workers reconcile channels at the same time. They mostly wait: for the API
// server, and for the backend.
const workers = 16

// SetupWithManager has the manager run the Reconciler and its Roll.
func (r *Reconciler) SetupWithManager(m ctrl.Manager) error {
	if err := m.Add(r.Roll); err != nil {
		return err
	}
	b := ctrl.NewControllerManagedBy(m).
		Named("sidestepchannel").
		For(&v1alpha1.SidestepChannel{}).
		Owns(&corev1.Service{}).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(r.everything)).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.everything)).
		Watches(&eventingv1alpha1.EventPolicy{}, handler.EnqueueRequestsFromMapFunc(r.namespace),
			builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		WatchesRawSource(source.Channel(r.Roll.changed,
			handler.TypedEnqueueRequestsFromMapFunc(func(_ context.Context, c *v1alpha1.SidestepChannel) []ctrlreconcile.Request {
				return []ctrlreconcile.Request{{NamespacedName: client.ObjectKeyFromObject(c)}}
			}))).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers})
	if r.Changed != nil {
		b = b.WatchesRawSource(source.Channel(r.Changed,
			handler.TypedEnqueueRequestsFromMapFunc(func(ctx context.Context, _ *corev1.ConfigMap) []ctrlreconcile.Request { return r.list(ctx) })))
	}
	return b.Complete(r)
}

// everything is every channel: what they have in common has changed.
func (r *Reconciler) everything(ctx context.Context, _ client.Object) []ctrlreconcile.Request {
	return r.list(ctx)
}

// namespace is every channel in the namespace of an object.
func (r *Reconciler) namespace(ctx context.Context, o client.Object) []ctrlreconcile.Request {
	return r.list(ctx, client.InNamespace(o.GetNamespace()))
}

func (r *Reconciler) list(ctx context.Context, options ...client.ListOption) []ctrlreconcile.Request {
	var all v1alpha1.SidestepChannelList
	if err := r.Client.List(ctx, &all, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "list channels")
		return nil
	}
	out := make([]ctrlreconcile.Request, len(all.Items))
	for i := range all.Items {
		out[i].NamespacedName = client.ObjectKeyFromObject(&all.Items[i])
	}
	return out
}
