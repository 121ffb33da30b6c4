package reconcile

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	"knative.dev/eventing/pkg/apis/feature"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/sidestep-dev/sidestep/internal/rollcall"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
)

func named(name string) *v1alpha1.SidestepChannel {
	c := &v1alpha1.SidestepChannel{}
	c.Namespace, c.Name, c.UID = "n", name, "u"
	return c
}

func TestAChannelsServiceIsAnAliasOfTheDispatchers(t *testing.T) {
	s := service(named("c"), "d.example")
	if s.Name != "c-kn-channel" || s.Namespace != "n" || s.Spec.Type != corev1.ServiceTypeExternalName || s.Spec.ExternalName != "d.example" {
		t.Errorf("got %+v", s)
	}
	if o := s.OwnerReferences; len(o) != 1 || o[0].Kind != v1alpha1.Kind || o[0].UID != "u" || !*o[0].Controller {
		t.Errorf("owners are %+v", o)
	}
	if s := service(named(strings.Repeat("x", 63)), "d"); len(s.Name) > 63 {
		t.Errorf("name has %d bytes", len(s.Name))
	}
}

func TestAddressesFollowTheFeatures(t *testing.T) {
	certs := "PEM"
	const plain, secure = "http://c-kn-channel.n.svc.cluster.local", "https://d.example/n/c"
	tests := []struct {
		features map[string]string
		address  string
		all      []string
		audience bool
	}{
		{nil, plain, nil, false},
		{map[string]string{"transport-encryption": "disabled"}, plain, nil, false},
		{map[string]string{"transport-encryption": "permissive"}, plain, []string{secure, plain}, false},
		{map[string]string{"transport-encryption": "strict"}, secure, []string{secure}, false},
		{map[string]string{"transport-encryption": "permissive", "authentication-oidc": "enabled"}, plain, []string{secure, plain}, true},
	}
	for _, tt := range tests {
		flags, err := feature.NewFlagsConfigFromMap(tt.features)
		if err != nil {
			t.Fatal(err)
		}
		a, all := addresses(named("c"), flags, "d.example", "cluster.local", &certs)
		if a.URL.String() != tt.address || len(all) != len(tt.all) {
			t.Errorf("%v: %s and %d more", tt.features, a.URL, len(all))
			continue
		}
		for i, x := range append([]duckv1.Addressable{a}, all...) {
			if i > 0 && x.URL.String() != tt.all[i-1] {
				t.Errorf("%v: address %d is %s", tt.features, i, x.URL)
			}
			if https := x.URL.Scheme == "https"; https != (x.CACerts != nil) {
				t.Errorf("%v: %s has certificates %v", tt.features, x.URL, x.CACerts)
			}
			if tt.audience != (x.Audience != nil) || tt.audience && *x.Audience != "messaging.sidestep.dev/sidestepchannel/n/c" {
				t.Errorf("%v: audience %v", tt.features, x.Audience)
			}
		}
	}
}

func TestAFindingNamesTheDispatcherThatIsMissing(t *testing.T) {
	knows := func(gen int64) *rollcall.Answer {
		return &rollcall.Answer{Epoch: 5, Observed: 5, Channels: map[string]rollcall.Channel{
			"n/c": {UID: "u", Changed: 5, Subscriptions: map[string]rollcall.Subscription{"a": {Generation: gen}}},
		}}
	}
	w := want{uid: "u", subscriptions: map[types.UID]int64{"a": 2}, without: []types.UID{"b"}}

	f := w.look("n/c", []reply{{replica: "d-1", answer: knows(2)}, {replica: "d-2", answer: knows(2)}})
	if f.replicas != 2 || f.unknown != "" || len(f.missing) != 0 || len(f.lingering) != 0 {
		t.Errorf("all is there, and it says %+v", f)
	}
	f = w.look("n/c", []reply{{replica: "d-1", answer: knows(2)}, {replica: "d-2", answer: knows(1)}})
	if f.unknown != "" || !strings.Contains(f.missing["a"], "dispatcher d-2 does not know the subscription") {
		t.Errorf("got %+v", f)
	}
	f = w.look("n/c", []reply{{replica: "d-1", err: errors.New("refused")}, {replica: "d-2", answer: knows(2)}})
	if !strings.Contains(f.unknown, "d-1 does not answer") || f.missing["a"] == "" || !f.lingering["b"] || f.present == "" {
		t.Errorf("got %+v", f)
	}
}

func TestASubscriptionThatWasReadyStaysSoUntilItChanges(t *testing.T) {
	c, spec := named("c"), sub("a", 2)
	active := at(v1alpha1.Active, spec, -1)
	status := func(generation int64, ready corev1.ConditionStatus) eventingduckv1.SubscriberStatus {
		return eventingduckv1.SubscriberStatus{UID: "a", ObservedGeneration: generation, Ready: ready}
	}
	heard := func(why string) *finding {
		f := &finding{replicas: 1, missing: map[types.UID]string{}}
		if why != "" {
			f.missing["a"] = why
		}
		return f
	}
	pending := at(v1alpha1.Pending, spec, -1)
	tests := []struct {
		name string
		p    *v1alpha1.Position
		was  eventingduckv1.SubscriberStatus
		f    *finding
		want corev1.ConditionStatus
	}{
		{"its group is not made", &pending, eventingduckv1.SubscriberStatus{}, heard(""), corev1.ConditionUnknown},
		{"nothing was heard", &active, eventingduckv1.SubscriberStatus{}, nil, corev1.ConditionUnknown},
		{"one does not know it", &active, eventingduckv1.SubscriberStatus{}, heard("d-1 does not"), corev1.ConditionUnknown},
		{"all know it", &active, eventingduckv1.SubscriberStatus{}, heard(""), corev1.ConditionTrue},
		{"it was ready", &active, status(2, corev1.ConditionTrue), nil, corev1.ConditionTrue},
		{"it was ready as it was before", &active, status(1, corev1.ConditionTrue), nil, corev1.ConditionUnknown},
		{"there is nobody to deliver", &active, eventingduckv1.SubscriberStatus{}, &finding{}, corev1.ConditionUnknown},
	}
	for _, tt := range tests {
		got := subscriberStatus(c, &spec, tt.p, tt.was, tt.f)
		if got.Ready != tt.want || got.ObservedGeneration != 2 || got.Ready != corev1.ConditionTrue && got.Message == "" {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
	bad := eventingduckv1.SubscriberSpec{UID: "a"}
	if got := subscriberStatus(c, &bad, nil, eventingduckv1.SubscriberStatus{}, nil); got.Ready != corev1.ConditionFalse || got.Message == "" {
		t.Errorf("one that cannot be used: %+v", got)
	}
}
