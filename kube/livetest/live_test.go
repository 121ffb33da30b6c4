package livetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
)

// make makes a channel.
func (w *world) make(name string, spec v1alpha1.SidestepChannelSpec) *v1alpha1.SidestepChannel {
	w.t.Helper()
	c := &v1alpha1.SidestepChannel{Spec: spec}
	c.Namespace, c.Name = w.namespace, name
	if err := w.client.Create(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// subscribe writes spec.subscribers as Knative's controller does.
func (w *world) subscribe(name string, subs ...eventingduckv1.SubscriberSpec) {
	w.t.Helper()
	conf := rest.CopyConfig(w.conf)
	conf.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + system + ":eventing-controller", Groups: []string{"system:masters"},
	}
	c, err := client.New(conf, client.Options{Scheme: scheme(w.t)})
	if err != nil {
		w.t.Fatal(err)
	}
	was := w.get(name)
	is := was.DeepCopy()
	is.Spec.Subscribers = subs
	if err := c.Patch(w.t.Context(), is, client.MergeFrom(was)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) get(name string) *v1alpha1.SidestepChannel {
	w.t.Helper()
	c := &v1alpha1.SidestepChannel{}
	if err := w.client.Get(w.t.Context(), types.NamespacedName{Namespace: w.namespace, Name: name}, c); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// condition fails until a channel has a condition with a status and, if one is
// given, a reason.
func (w *world) condition(name string, kind apis.ConditionType, status corev1.ConditionStatus, reason string) func() error {
	return func() error {
		got := w.get(name).Conditions().GetCondition(kind)
		if got != nil && got.Status == status && (reason == "" || got.Reason == reason) {
			return nil
		}
		return fmt.Errorf("%s is %+v", kind, got)
	}
}

// subscribed fails until a subscription's status is as wanted; message is part of
// the one it has.
func (w *world) subscribed(name, uid string, ready corev1.ConditionStatus, message string) func() error {
	return func() error {
		status := w.get(name).Status
		for _, s := range status.Subscribers {
			if s.UID == types.UID(uid) && s.Ready == ready && strings.Contains(s.Message, message) {
				return nil
			}
		}
		return fmt.Errorf("subscribers are %+v, positions %+v", status.Subscribers, status.Positions)
	}
}

func subscriber(t *testing.T, uid, url string) eventingduckv1.SubscriberSpec {
	t.Helper()
	u, err := apis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	return eventingduckv1.SubscriberSpec{UID: types.UID(uid), Generation: 1, SubscriberURI: u}
}

// patient is a subscriber that is tried for as long as it takes.
func patient(t *testing.T, uid, url string) eventingduckv1.SubscriberSpec {
	t.Helper()
	s := subscriber(t, uid, url)
	retry, delay, policy := int32(10000), "PT0.1S", eventingduckv1.BackoffPolicyLinear
	s.Delivery = &eventingduckv1.DeliverySpec{Retry: &retry, BackoffDelay: &delay, BackoffPolicy: &policy}
	// Linear backoff grows without a bound: the tests mend what fails soon.
	return s
}

func TestAChannelIsReadyWhenEveryDispatcherTakesItsEvents(t *testing.T) {
	w := begin(t)
	w.make("c", v1alpha1.SidestepChannelSpec{})
	await(t, "the missing dispatcher to be said", w.condition("c", v1alpha1.ConditionDispatchersReady, corev1.ConditionFalse, "NoDispatcher"))
	if a := w.get("c").Status.Address; a != nil {
		t.Errorf("there is an address, and nobody behind it: %v", a.URL)
	}
	d := w.dispatcher("d-1", "127.0.0.1")
	await(t, "the channel", w.condition("c", v1alpha1.ConditionReady, corev1.ConditionTrue, ""))
	c := w.get("c")
	if want := "http://c-kn-channel." + w.namespace + ".svc.cluster.local"; c.Status.Address.URL.String() != want {
		t.Errorf("address is %s, want %s", c.Status.Address.URL, want)
	}
	if c.Annotations["messaging.knative.dev/subscribable"] != "v1" || c.Spec.Ordering != v1alpha1.Unordered {
		t.Errorf("defaults are missing: %v, %q", c.Annotations, c.Spec.Ordering)
	}
	s := &corev1.Service{}
	if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: w.namespace, Name: "c-kn-channel"}, s); err != nil {
		t.Fatal(err)
	}
	if s.Spec.ExternalName != dispatcher {
		t.Errorf("the Service leads to %q", s.Spec.ExternalName)
	}
	if status := d.post("c", "1"); status != 202 {
		t.Errorf("an event is answered %d", status)
	}
	if status := d.post("other", "1"); status != 404 {
		t.Errorf("an event for no channel is answered %d", status)
	}
}

func TestASubscriptionIsReadyOnlyWhenEveryReplicaDelivers(t *testing.T) {
	w := begin(t)
	l := newLedger(t)
	d := w.dispatcher("d-1", "127.0.0.1")
	w.make("c", v1alpha1.SidestepChannelSpec{})
	await(t, "the channel", w.condition("c", v1alpha1.ConditionReady, corev1.ConditionTrue, ""))

	w.pod("mute", "127.0.0.9") // nobody answers there
	w.subscribe("c", subscriber(t, "a", l.url))
	await(t, "the mute one to be named", w.subscribed("c", "a", corev1.ConditionUnknown, "dispatcher mute does not answer"))
	w.gone("mute")
	await(t, "the subscription", w.subscribed("c", "a", corev1.ConditionTrue, ""))
	if status := d.post("c", "1"); status != 202 {
		t.Fatalf("answered %d", status)
	}
	await(t, "the event", func() error { return l.has("1") })

	// A second dispatcher, and a second subscription.
	other := w.dispatcher("d-2", "127.0.0.2")
	second := newLedger(t)
	w.subscribe("c", subscriber(t, "a", l.url), subscriber(t, "b", second.url))
	await(t, "the second subscription", w.subscribed("c", "b", corev1.ConditionTrue, ""))
	for i, at := range []*running{d, other} {
		id := fmt.Sprint("at-", i)
		if status := at.post("c", id); status != 202 {
			t.Fatalf("answered %d", status)
		}
		await(t, "the event at both", func() error { return firstError(l.has(id), second.has(id)) })
	}

	// It changes in place: another subscriber of the same uid.
	third := newLedger(t)
	changed := subscriber(t, "b", third.url)
	changed.Generation = 2
	w.subscribe("c", subscriber(t, "a", l.url), changed)
	await(t, "the change to be observed", func() error {
		for _, s := range w.get("c").Status.Subscribers {
			if s.UID == "b" && s.ObservedGeneration == 2 && s.Ready == corev1.ConditionTrue {
				return nil
			}
		}
		return errors.New("not yet")
	})
	if status := other.post("c", "last"); status != 202 {
		t.Fatalf("answered %d", status)
	}
	await(t, "the event where it goes now", func() error { return third.has("last") })
}

func TestASubscriptionThatCannotBeUsedSaysWhy(t *testing.T) {
	w := begin(t)
	w.dispatcher("d-1", "127.0.0.1")
	w.make("c", v1alpha1.SidestepChannelSpec{})
	bad := subscriber(t, "a", "http://x")
	timeout := "5 seconds"
	bad.Delivery = &eventingduckv1.DeliverySpec{Timeout: &timeout}
	w.subscribe("c", bad)
	await(t, "the reason", w.subscribed("c", "a", corev1.ConditionFalse, "delivery.timeout"))
}

func TestALostUpdateLosesNoEvent(t *testing.T) {
	w := begin(t)
	l := newLedger(t)
	d := w.dispatcher("d-1", "127.0.0.1")
	w.make("c", v1alpha1.SidestepChannelSpec{})
	w.subscribe("c", patient(t, "a", l.url))
	await(t, "the subscription", w.subscribed("c", "a", corev1.ConditionTrue, ""))

	w.subscribe("c") // and it is gone
	await(t, "its position to be held", func() error {
		ps := w.get("c").Status.Positions
		if len(ps) == 1 && ps[0].State == v1alpha1.Held {
			return nil
		}
		return fmt.Errorf("positions are %+v", ps)
	})
	if status := d.post("c", "meanwhile"); status != 202 {
		t.Fatalf("answered %d", status)
	}
	w.subscribe("c", patient(t, "a", l.url))
	await(t, "the subscription to be back", w.subscribed("c", "a", corev1.ConditionTrue, ""))
	await(t, "the event that came meanwhile", func() error { return l.has("meanwhile") })
}

func TestADeletedChannelDeliversWhatItHasBeforeItGoes(t *testing.T) {
	w := begin(t)
	l := newLedger(t)
	d := w.dispatcher("d-1", "127.0.0.1")
	c := w.make("c", v1alpha1.SidestepChannelSpec{})
	w.subscribe("c", patient(t, "a", l.url))
	await(t, "the subscription", w.subscribed("c", "a", corev1.ConditionTrue, ""))
	l.setFail(true)
	if status := d.post("c", "1"); status != 202 {
		t.Fatalf("answered %d", status)
	}
	if err := w.client.Delete(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	await(t, "it to say that it drains", w.condition("c", v1alpha1.ConditionDrained, corev1.ConditionFalse, "Draining"))
	await(t, "no more events to be taken", func() error {
		if status := d.post("c", "2"); status != 404 {
			return fmt.Errorf("answered %d", status)
		}
		return nil
	})
	l.setFail(false)
	await(t, "the event", func() error { return l.has("1") })
	await(t, "the channel to be gone", func() error {
		err := w.client.Get(t.Context(), client.ObjectKeyFromObject(c), &v1alpha1.SidestepChannel{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there: %w", err)
	})
	if _, err := w.backend.Lag(context.Background(), w.namespace+"/c", "a"); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("its log is not gone: %v", err)
	}
}

func TestWhatIsLeftOfADeletedChannelIsCounted(t *testing.T) {
	w := begin(t)
	l := newLedger(t)
	l.setFail(true)
	w.configure(map[string]string{"dispatch": "drainOnDelete: 1s"})
	await(t, "that to be in effect", func() error {
		if got := w.state().Config.Dispatch.DrainOnDelete; got != time.Second {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
	d := w.dispatcher("d-1", "127.0.0.1")
	c := w.make("c", v1alpha1.SidestepChannelSpec{})
	w.subscribe("c", patient(t, "a", l.url))
	await(t, "the subscription", w.subscribed("c", "a", corev1.ConditionTrue, ""))
	if status := d.post("c", "1"); status != 202 {
		t.Fatalf("answered %d", status)
	}
	if err := w.client.Delete(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	await(t, "the channel to be gone", func() error {
		err := w.client.Get(t.Context(), client.ObjectKeyFromObject(c), &v1alpha1.SidestepChannel{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there: %w", err)
	})
	if got := testutil.ToFloat64(w.discarded); got != 1 {
		t.Errorf("%v records were discarded, want 1", got)
	}
}

func TestAFlowIsDrainedFromItsBeginning(t *testing.T) {
	w := begin(t)
	l := newLedger(t)
	d := w.dispatcher("d-1", "127.0.0.1")
	first, last := w.make("a", v1alpha1.SidestepChannelSpec{}), w.make("b", v1alpha1.SidestepChannelSpec{})
	step := patient(t, "1", l.url)
	step.ReplyURI = apis.HTTP("b-kn-channel." + w.namespace + ".svc.cluster.local")
	w.subscribe("a", step)
	await(t, "the subscription", w.subscribed("a", "1", corev1.ConditionTrue, ""))
	l.setFail(true)
	if status := d.post("a", "1"); status != 202 {
		t.Fatalf("answered %d", status)
	}
	for _, c := range []*v1alpha1.SidestepChannel{last, first} {
		if err := w.client.Delete(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the last to wait for the first", func() error {
		got := w.get("b").Conditions().GetCondition(v1alpha1.ConditionDrained)
		if got == nil || !strings.Contains(got.Message, w.namespace+"/a still leads here") {
			return fmt.Errorf("Drained is %+v", got)
		}
		return nil
	})
	l.setFail(false)
	await(t, "both to be gone", func() error {
		var list v1alpha1.SidestepChannelList
		if err := w.client.List(t.Context(), &list, client.InNamespace(w.namespace)); err != nil {
			return err
		}
		if len(list.Items) > 0 {
			return fmt.Errorf("%d are left", len(list.Items))
		}
		return nil
	})
}

func TestAControllerThatTakesOverGoesOn(t *testing.T) {
	w := begin(t)
	l := newLedger(t)
	d := w.dispatcher("d-1", "127.0.0.1")
	w.make("c", v1alpha1.SidestepChannelSpec{})
	w.subscribe("c", subscriber(t, "a", l.url))
	await(t, "the subscription", w.subscribed("c", "a", corev1.ConditionTrue, ""))
	second := newLedger(t)
	w.controller() // beside the first: whichever writes first, the other goes by it
	w.subscribe("c", subscriber(t, "a", l.url), subscriber(t, "b", second.url))
	await(t, "the second subscription", w.subscribed("c", "b", corev1.ConditionTrue, ""))
	if status := d.post("c", "1"); status != 202 {
		t.Fatalf("answered %d", status)
	}
	await(t, "the event at both", func() error { return firstError(l.has("1"), second.has("1")) })
}

func TestADeadLetterSinkIsResolved(t *testing.T) {
	w := begin(t)
	w.dispatcher("d-1", "127.0.0.1")
	ref := func(kind, version, name string) *eventingduckv1.DeliverySpec {
		return &eventingduckv1.DeliverySpec{DeadLetterSink: &duckv1.Destination{
			Ref: &duckv1.KReference{APIVersion: version, Kind: kind, Name: name},
		}}
	}
	var spec v1alpha1.SidestepChannelSpec
	spec.Delivery = ref("SidestepChannel", "messaging.sidestep.dev/v1alpha1", "dead")
	w.make("c", spec)
	await(t, "the missing sink to be said", w.condition("c", v1alpha1.ConditionDeadLetterSinkResolved, corev1.ConditionFalse, "DeadLetterSinkUnresolved"))
	if w.get("c").Conditions().IsHappy() {
		t.Error("it is ready without its dead letter sink")
	}
	w.make("dead", v1alpha1.SidestepChannelSpec{})
	await(t, "the sink", w.condition("c", v1alpha1.ConditionReady, corev1.ConditionTrue, ""))
	if u := w.get("c").Status.DeadLetterSinkURI; u.String() != "http://dead-kn-channel."+w.namespace+".svc.cluster.local" {
		t.Errorf("resolved to %s", u)
	}
}

func TestBadChannelsAreRefusedWithTheFieldThatIsWrong(t *testing.T) {
	w := begin(t)
	c := w.make("c", v1alpha1.SidestepChannelSpec{Ordering: v1alpha1.PerKey})
	retry, timeout, policy := int32(-1), "5s", eventingduckv1.BackoffPolicyType("never")
	tests := []struct {
		name   string
		change func(*v1alpha1.SidestepChannel)
		want   string
	}{
		{"ordering changes", func(c *v1alpha1.SidestepChannel) { c.Spec.Ordering = v1alpha1.Unordered }, "spec.ordering: Invalid value: cannot change"},
		{"short circuit", func(c *v1alpha1.SidestepChannel) { c.Spec.ShortCircuit = "Sometimes" }, "spec.shortCircuit: Unsupported value"},
		{"retry", func(c *v1alpha1.SidestepChannel) { c.Spec.Delivery = &eventingduckv1.DeliverySpec{Retry: &retry} }, "spec.delivery.retry"},
		{"timeout", func(c *v1alpha1.SidestepChannel) { c.Spec.Delivery = &eventingduckv1.DeliverySpec{Timeout: &timeout} }, "spec.delivery.timeout"},
		{"backoff", func(c *v1alpha1.SidestepChannel) {
			c.Spec.Delivery = &eventingduckv1.DeliverySpec{BackoffPolicy: &policy}
		}, "spec.delivery.backoffPolicy: Unsupported value"},
		{"subscribers by hand", func(c *v1alpha1.SidestepChannel) {
			c.Spec.Subscribers = []eventingduckv1.SubscriberSpec{subscriber(t, "a", "http://x")}
		}, "spec.subscribers: is changed by Knative's subscription controller alone"},
	}
	for _, tt := range tests {
		was := w.get(c.Name)
		is := was.DeepCopy()
		tt.change(is)
		err := w.client.Patch(t.Context(), is, client.MergeFrom(was))
		// Before Kubernetes 1.35 the value of a whole object is said to be "object".
		if err == nil || !strings.Contains(strings.Replace(err.Error(), `Invalid value: "object": `, "Invalid value: ", 1), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
