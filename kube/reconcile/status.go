package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1alpha1 "knative.dev/eventing/pkg/apis/eventing/v1alpha1"
	"knative.dev/eventing/pkg/auth"
	policylisters "knative.dev/eventing/pkg/client/listers/eventing/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
	"github.com/sidestep-dev/sidestep/kube/watch"
)

const (
	normal  = corev1.EventTypeNormal
	warning = corev1.EventTypeWarning
)

func (w *work) event(kind, reason, format string, args ...any) {
	w.Events.Eventf(w.c, nil, kind, reason, "Reconcile", format, args...)
}

// reasonOf an error of the backend, for a condition.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, backend.ErrFull):
		return "BackendFull"
	case errors.Is(err, backend.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return "BackendUnavailable"
	}
	return "BackendFailed"
}

func oldest(a *metav1.Time, b time.Time) *metav1.Time {
	if b.IsZero() || a != nil && a.Time.Before(b) {
		return a
	}
	t := metav1.NewTime(b.Truncate(time.Second))
	return &t
}

func nameOf(s *eventingduckv1.SubscriberSpec) string {
	if s.Name != nil && *s.Name != "" {
		return *s.Name
	}
	return string(s.UID)
}

// reach makes the Service that the channel's host name is of.
func (w *work) reach(ctx context.Context) error {
	err := w.ensureService(ctx)
	if err != nil {
		w.c.Conditions().MarkFalse(v1alpha1.ConditionChannelServiceReady, "ServiceFailed", "%v", err)
		return err
	}
	w.c.Conditions().MarkTrue(v1alpha1.ConditionChannelServiceReady)
	return nil
}

func (w *work) ensureService(ctx context.Context) error {
	want, got := service(w.c, w.Dispatcher), new(corev1.Service)
	err := w.Client.Get(ctx, client.ObjectKeyFromObject(want), got)
	if apierrors.IsNotFound(err) {
		err = w.Client.Create(ctx, want)
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		err = w.Direct.Get(ctx, client.ObjectKeyFromObject(want), got) // the cache is behind
	}
	if err != nil {
		return err
	}
	if !metav1.IsControlledBy(got, w.c) {
		return fmt.Errorf("there is a Service %s/%s that is not this channel's; delete it, or give the channel another name",
			got.Namespace, got.Name)
	}
	if got.Spec.Type == want.Spec.Type && got.Spec.ExternalName == want.Spec.ExternalName {
		return nil
	}
	got = got.DeepCopy()
	got.Spec = want.Spec
	return w.Client.Update(ctx, got)
}

// deadLetterSink resolves spec.delivery.deadLetterSink.
func (w *work) deadLetterSink(ctx context.Context) error {
	manage := w.c.Conditions()
	d := w.c.Spec.Delivery
	if d == nil || d.DeadLetterSink == nil {
		w.c.Status.DeliveryStatus = eventingduckv1.DeliveryStatus{}
		manage.MarkTrueWithReason(v1alpha1.ConditionDeadLetterSinkResolved, "DeadLetterSinkNotConfigured", "there is none")
		return nil
	}
	a, err := sinks{w.Direct, w.ClusterDomain}.resolve(ctx, d.DeadLetterSink, w.c.Namespace)
	if err != nil {
		w.c.Status.DeliveryStatus = eventingduckv1.DeliveryStatus{}
		manage.MarkFalse(v1alpha1.ConditionDeadLetterSinkResolved, "DeadLetterSinkUnresolved", "spec.delivery.deadLetterSink.%v", err)
		return fmt.Errorf("resolve spec.delivery.deadLetterSink.%w", err)
	}
	w.c.Status.DeliveryStatus = eventingduckv1.NewDeliveryStatusFromAddressable(a)
	manage.MarkTrue(v1alpha1.ConditionDeadLetterSinkResolved)
	w.soon(sinkPoll)
	return nil
}

// policies finds the EventPolicies that apply.
func (w *work) policies(ctx context.Context) error {
	var list eventingv1alpha1.EventPolicyList
	if err := w.Client.List(ctx, &list, client.InNamespace(w.c.Namespace)); err != nil {
		w.c.Status.MarkEventPoliciesFailed("EventPoliciesGetFailed", "list EventPolicies: %v", err)
		return fmt.Errorf("list EventPolicies: %w", err)
	}
	// Knative's own code decides which apply; it asks a lister.
	index := toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc,
		toolscache.Indexers{toolscache.NamespaceIndex: toolscache.MetaNamespaceIndexFunc})
	for i := range list.Items {
		if err := index.Add(&list.Items[i]); err != nil {
			return fmt.Errorf("index EventPolicies: %w", err)
		}
	}
	return auth.UpdateStatusWithEventPolicies(w.settings.Features, &w.c.Status.AppliedEventPoliciesStatus, &w.c.Status,
		policylisters.NewEventPolicyLister(index), w.c.GetGroupVersionKind(), w.c.ObjectMeta)
}

// want is what dispatchers have to know before the channel is ready.
func (w *work) want() want {
	out := want{uid: w.c.UID, subscriptions: map[types.UID]int64{}}
	for i := range w.c.Status.Positions {
		p := &w.c.Status.Positions[i]
		switch p.State {
		case v1alpha1.Active:
			out.subscriptions[p.Subscriber.UID] = p.Subscriber.Generation
		case v1alpha1.Leaving:
			out.without = append(out.without, p.Subscriber.UID)
		case v1alpha1.Pending, v1alpha1.Draining, v1alpha1.Held:
		}
	}
	out.shared = w.c.Status.EarlyDeletion == v1alpha1.EarlyEnding
	w.wantPlace(&out)
	return out
}

// attend asks dispatchers, if anything waits for them, and says in the status what
// is ready: the address, and subscriptions.
func (w *work) attend(ctx context.Context) {
	manage, status := w.c.Conditions(), &w.c.Status
	was := make(map[types.UID]eventingduckv1.SubscriberStatus, len(status.Subscribers))
	for _, s := range status.Subscribers {
		was[s.UID] = s
	}
	if status.Backend == "" {
		manage.MarkUnknown(v1alpha1.ConditionDispatchersReady, "LogMissing", "dispatchers learn of the channel when it has a log")
		manage.MarkUnknown(v1alpha1.ConditionAddressable, "LogMissing", "the address is published when there is a log")
		w.subscribers(was, nil)
		return
	}
	known := manage.GetCondition(v1alpha1.ConditionDispatchersReady).IsTrue() && status.Address != nil
	if known && w.Roll.none(ctx) {
		known = false // until one is there again, and has been asked
	}
	var f *finding
	if !known || w.waits(was) {
		f = w.Roll.Await(w.key(), w.want())
		if f == nil && !known {
			manage.MarkUnknown(v1alpha1.ConditionDispatchersReady, "Asking", "dispatchers are being asked whether they know the channel")
		}
	}
	switch {
	case known || f == nil:
	case f.replicas == 0:
		manage.MarkFalse(v1alpha1.ConditionDispatchersReady, "NoDispatcher", "no dispatcher is running; see the Deployment sidestep-dispatcher")
	case f.unknown != "":
		manage.MarkFalse(v1alpha1.ConditionDispatchersReady, "NotYetKnown", "%s", f.unknown)
	default:
		manage.MarkTrue(v1alpha1.ConditionDispatchersReady)
		known = true
	}
	w.address(ctx, known)
	w.subscribers(was, f)
	if known && !w.waits(nil) {
		w.Roll.Done(w.key())
		if alone(status.Positions) && len(status.Subscribers) == 1 && status.Subscribers[0].Ready == corev1.ConditionTrue {
			status.EarlyDeletion = v1alpha1.EarlyAllowed
		}
	}
}

// waits tells whether a subscription is not ready that may become so, or a group
// is to be deleted. was is the status before; nil for the one now.
func (w *work) waits(was map[types.UID]eventingduckv1.SubscriberStatus) bool {
	if was == nil {
		was = make(map[types.UID]eventingduckv1.SubscriberStatus)
		for _, s := range w.c.Status.Subscribers {
			was[s.UID] = s
		}
	}
	for i := range w.c.Status.Positions {
		p := &w.c.Status.Positions[i]
		s := was[p.Subscriber.UID]
		if isLeaving(*p) || watch.CheckSubscriber(w.c, &p.Subscriber) == nil &&
			p.State == v1alpha1.Active && (s.Ready != corev1.ConditionTrue || s.ObservedGeneration != p.Subscriber.Generation) {
			return true
		}
	}
	return w.moves() || w.c.Status.EarlyDeletion == v1alpha1.EarlyEnding
}

func (w *work) address(ctx context.Context, known bool) {
	manage, status := w.c.Conditions(), &w.c.Status
	if !known {
		if status.Address == nil {
			manage.MarkUnknown(v1alpha1.ConditionAddressable, "DispatchersNotReady", "the address is published when every dispatcher knows the channel")
		}
		return
	}
	var certs *string
	if w.settings.Features.IsPermissiveTransportEncryption() || w.settings.Features.IsStrictTransportEncryption() {
		var err error
		if certs, err = w.CACerts(ctx); err != nil {
			manage.MarkFalse(v1alpha1.ConditionAddressable, "NoCertificate", "%v", err)
			return
		}
	}
	a, all := addresses(w.c, w.settings.Features, w.Dispatcher, w.ClusterDomain, certs)
	if status.Address == nil || !equality.Semantic.DeepEqual(*status.Address, a) {
		status.Address = &a
	}
	status.Addresses = all
	manage.MarkTrue(v1alpha1.ConditionAddressable)
}

// subscribers says which of spec.subscribers are ready. f is nil where nothing was
// heard: what was ready stays so.
func (w *work) subscribers(was map[types.UID]eventingduckv1.SubscriberStatus, f *finding) {
	at := make(map[types.UID]*v1alpha1.Position, len(w.c.Status.Positions))
	for i := range w.c.Status.Positions {
		p := &w.c.Status.Positions[i]
		at[p.Subscriber.UID] = p
	}
	var out []eventingduckv1.SubscriberStatus
	for i := range w.c.Spec.Subscribers {
		spec := &w.c.Spec.Subscribers[i]
		out = append(out, subscriberStatus(w.c, spec, at[spec.UID], was[spec.UID], f))
	}
	w.c.Status.Subscribers = out
}

// subscriberStatus of one subscription.
func subscriberStatus(
	c *v1alpha1.SidestepChannel, spec *eventingduckv1.SubscriberSpec, p *v1alpha1.Position,
	was eventingduckv1.SubscriberStatus, f *finding,
) eventingduckv1.SubscriberStatus {
	s := eventingduckv1.SubscriberStatus{UID: spec.UID, ObservedGeneration: spec.Generation, Ready: corev1.ConditionUnknown, Auth: spec.Auth}
	bad := watch.CheckSubscriber(c, spec)
	switch {
	case bad != nil:
		s.Ready, s.Message = corev1.ConditionFalse, bad.Error()
	case p != nil && p.State == v1alpha1.Pending && f != nil && f.alone != "":
		s.Message = f.alone
	case p == nil || p.State != v1alpha1.Active:
		s.Message = "its position in the log is being made"
	case was.Ready == corev1.ConditionTrue && was.ObservedGeneration == spec.Generation:
		s.Ready = corev1.ConditionTrue
	case f == nil:
		s.Message = "dispatchers are being asked whether they know it"
	case f.replicas == 0:
		s.Message = "no dispatcher is running"
	case f.missing[spec.UID] != "":
		s.Message = f.missing[spec.UID]
	default:
		s.Ready = corev1.ConditionTrue
	}
	return s
}
