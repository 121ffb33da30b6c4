package watch

import (
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	"knative.dev/eventing/pkg/apis/feature"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
)

func ptr[T any](v T) *T { return &v }

func parsed(t *testing.T, s string) *apis.URL {
	t.Helper()
	u, err := apis.ParseURL(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// made is a channel with a log, and with an Active position for each subscriber.
func made(name string, subs ...eventingduckv1.SubscriberSpec) *v1alpha1.SidestepChannel {
	c := &v1alpha1.SidestepChannel{}
	c.Namespace, c.Name, c.UID = "n", name, types.UID("uid-"+name)
	c.Status.Backend = "embedded"
	c.Spec.Subscribers = subs
	for _, s := range subs {
		c.Status.Positions = append(c.Status.Positions, v1alpha1.Position{Subscriber: s, State: v1alpha1.Active})
	}
	return c
}

func TestASequenceBecomesATableWithRepliesInProcess(t *testing.T) {
	first := made("a", eventingduckv1.SubscriberSpec{
		Name: ptr("s"), UID: "1", Generation: 3,
		SubscriberURI: parsed(t, "http://step.n.svc.cluster.local"),
		ReplyURI:      parsed(t, "http://b-kn-channel.n.svc.cluster.local"),
		Delivery: &eventingduckv1.DeliverySpec{
			Retry: ptr(int32(4)), Timeout: ptr("PT2S"), BackoffPolicy: ptr(eventingduckv1.BackoffPolicyLinear),
			BackoffDelay: ptr("PT0.5S"), RetryAfterMax: ptr("PT0S"),
			DeadLetterSink: &duckv1.Destination{URI: parsed(t, "http://dead.example/x")},
		},
	})
	last := made("b", eventingduckv1.SubscriberSpec{UID: "2", SubscriberURI: parsed(t, "https://dispatcher.example/n/a")})
	table, roll, problems := Table([]*v1alpha1.SidestepChannel{first, last}, Options{Dispatcher: "dispatcher.example"})
	if problems != nil {
		t.Fatal(problems)
	}
	got := table.Channels[0].Subscriptions[0]
	want := &channel.Subscription{
		UID: "1", Namespace: "n", Name: "s",
		Subscriber: &egress.Target{URL: "http://step.n.svc.cluster.local"},
		Reply:      &channel.Destination{Channel: "n/b"},
		DeadLetter: &channel.Destination{Target: egress.Target{URL: "http://dead.example/x"}},
		Policy: egress.Policy{
			Retry: 4, Timeout: 2 * time.Second, Backoff: egress.Linear, Delay: 500 * time.Millisecond,
			RetryAfterMax: ptr(time.Duration(0)),
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	// A channel as a subscriber gets the event, in process as well.
	if s := table.Channels[1].Subscriptions[0]; s.Subscriber != nil || s.Reply == nil || s.Reply.Channel != "n/a" {
		t.Errorf("a channel by its path is not found: %+v", s)
	}
	if e := roll["n/a"]; e.UID != "uid-a" || e.Subscriptions["1"] != 3 {
		t.Errorf("roll has %+v", e)
	}
	if table.Channels[0].Hosts[0] != "a-kn-channel.n.svc.cluster.local" {
		t.Errorf("hosts are %v", table.Channels[0].Hosts)
	}
}

// What a subscriber takes by reference its reply's address need not.
func TestWhoTakesPayloadsByReferenceIsAskedByTheSubscribersURL(t *testing.T) {
	c := made("a", eventingduckv1.SubscriberSpec{
		UID: "1", SubscriberURI: parsed(t, "http://step.n.svc.cluster.local/x"), ReplyURI: parsed(t, "http://other.n.svc.cluster.local"),
	})
	var asked []string
	table, _, _ := Table([]*v1alpha1.SidestepChannel{c}, Options{ByReference: func(url string) bool {
		asked = append(asked, url)
		return true
	}})
	s := table.Channels[0].Subscriptions[0]
	if !s.Subscriber.Reference || s.Reply.Target.Reference || len(asked) != 1 || asked[0] != "http://step.n.svc.cluster.local/x" {
		t.Errorf("asked of %v, got %+v", asked, s)
	}
}

func TestPayloadsAreSharedUnlessTheStatusAllowsEarlyDeletion(t *testing.T) {
	for state, shared := range map[v1alpha1.EarlyDeletion]bool{"": true, v1alpha1.EarlyAllowed: false, v1alpha1.EarlyEnding: true} {
		c := made("a", eventingduckv1.SubscriberSpec{UID: "1", SubscriberURI: parsed(t, "http://x")})
		c.Status.EarlyDeletion = state
		table, roll, _ := Table([]*v1alpha1.SidestepChannel{c}, Options{})
		if table.Channels[0].Shared != shared || roll["n/a"].Shared != shared {
			t.Errorf("%q: shared %v, in the roll %v", state, table.Channels[0].Shared, roll["n/a"].Shared)
		}
	}
}

func TestOnlyWhatHasALogIsInTheTable(t *testing.T) {
	c := made("a")
	c.Status.Backend = ""
	if table, roll, _ := Table([]*v1alpha1.SidestepChannel{c}, Options{}); len(table.Channels)+len(roll) != 0 {
		t.Errorf("a channel without a log is in the table")
	}
}

func TestPositionsDecideWhoIsDeliveredTo(t *testing.T) {
	sub := eventingduckv1.SubscriberSpec{UID: "1", Generation: 1, SubscriberURI: parsed(t, "http://x")}
	for state, delivered := range map[v1alpha1.PositionState]bool{
		v1alpha1.Pending: false, v1alpha1.Active: true, v1alpha1.Draining: true, v1alpha1.Held: false, v1alpha1.Leaving: false,
	} {
		c := made("a", sub)
		c.Spec.ShortCircuit = v1alpha1.Always
		c.Status.Positions[0].State = state
		table, _, _ := Table([]*v1alpha1.SidestepChannel{c}, Options{})
		got := table.Channels[0]
		if len(got.Subscriptions) == 1 != delivered {
			t.Errorf("%s: %d subscriptions", state, len(got.Subscriptions))
		}
		// A group that nobody delivers from is not passed by.
		if got.ShortCircuit == channel.Always != delivered {
			t.Errorf("%s: short circuit %v", state, got.ShortCircuit)
		}
	}
}

func TestASubscriptionThatHasLeftIsDrainedAsItWasLast(t *testing.T) {
	c := made("a", eventingduckv1.SubscriberSpec{UID: "1", SubscriberURI: parsed(t, "http://last")})
	c.Spec.Subscribers = nil
	c.Status.Positions[0].State = v1alpha1.Draining
	now := metav1.Now()
	c.DeletionTimestamp = &now
	table, roll, _ := Table([]*v1alpha1.SidestepChannel{c}, Options{})
	got := table.Channels[0]
	if !got.Draining || len(got.Subscriptions) != 1 || got.Subscriptions[0].Subscriber.URL != "http://last" {
		t.Errorf("got %+v", got)
	}
	if !roll["n/a"].Draining {
		t.Error("the roll does not say that it drains")
	}
}

func TestWhatCannotBeUsedIsNamed(t *testing.T) {
	good := eventingduckv1.SubscriberSpec{UID: "1", SubscriberURI: parsed(t, "http://x")}
	tests := []struct {
		change func(*eventingduckv1.SubscriberSpec)
		want   string
	}{
		{func(s *eventingduckv1.SubscriberSpec) { s.UID = "" }, "uid: is empty"},
		{func(s *eventingduckv1.SubscriberSpec) { s.SubscriberURI = nil }, "want subscriberUri or replyUri"},
		{func(s *eventingduckv1.SubscriberSpec) { s.SubscriberURI = parsed(t, "ftp://x") }, "subscriberUri: want an absolute http"},
		{func(s *eventingduckv1.SubscriberSpec) { s.ReplyURI = parsed(t, "ftp://u:secret@x") }, "replyUri: want an absolute http"},
		{func(s *eventingduckv1.SubscriberSpec) {
			s.Delivery = &eventingduckv1.DeliverySpec{Timeout: ptr("5s")}
		}, "delivery.timeout: "},
		{func(s *eventingduckv1.SubscriberSpec) {
			s.Delivery = &eventingduckv1.DeliverySpec{Retry: ptr(int32(-1))}
		}, "delivery.retry: is -1"},
		{func(s *eventingduckv1.SubscriberSpec) {
			s.Delivery = &eventingduckv1.DeliverySpec{BackoffPolicy: ptr(eventingduckv1.BackoffPolicyType("x"))}
		}, "delivery.backoffPolicy: "},
		{func(s *eventingduckv1.SubscriberSpec) {
			s.Delivery = &eventingduckv1.DeliverySpec{DeadLetterSink: &duckv1.Destination{URI: parsed(t, "mailto:x")}}
		}, "delivery.deadLetterSink.uri: "},
	}
	for _, tt := range tests {
		s := *good.DeepCopy()
		tt.change(&s)
		_, roll, problems := Table([]*v1alpha1.SidestepChannel{made("a", s)}, Options{})
		if len(problems) != 1 || !strings.Contains(problems[0].Err.Error(), tt.want) {
			t.Errorf("problems are %v, want %q", problems, tt.want)
			continue
		}
		if strings.Contains(problems[0].Err.Error(), "secret") {
			t.Error("a password is shown")
		}
		if len(roll["n/a"].Subscriptions) != 0 {
			t.Error("what cannot be used is in the roll")
		}
		if CheckSubscriber(made("a"), &s) == nil {
			t.Error("the controller finds nothing wrong")
		}
	}
}

func TestAReplyThatAPolicyHasToLookAtTakesTheWayFromOutside(t *testing.T) {
	flags := func(mode string) feature.Flags {
		f, err := feature.NewFlagsConfigFromMap(map[string]string{"authentication-oidc": "enabled", "default-authorization-mode": mode})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	open, guarded := made("b"), made("b")
	guarded.Status.Policies = []eventingduckv1.AppliedEventPolicyRef{{Name: "p"}}
	tests := []struct {
		name  string
		flags feature.Flags
		to    *v1alpha1.SidestepChannel
		from  string
		want  bool
	}{
		{"OIDC is off", feature.Flags{}, guarded, "", true},
		{"no identity", flags("allow-all"), open, "", false},
		{"allow all", flags("allow-all"), open, "other/sa", true},
		{"same namespace", flags("allow-same-namespace"), open, "n/sa", true},
		{"other namespace", flags("allow-same-namespace"), open, "other/sa", false},
		{"deny all", flags("deny-all"), open, "n/sa", false},
		{"a policy", flags("allow-all"), guarded, "n/sa", false},
	}
	for _, tt := range tests {
		if got := admits(tt.flags, tt.to, tt.from); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	// And then with a token.
	c := made("a", eventingduckv1.SubscriberSpec{
		UID: "1", ReplyURI: parsed(t, "http://b-kn-channel.n.svc.cluster.local"), ReplyAudience: ptr("aud"),
		Auth: &duckv1.AuthStatus{ServiceAccountName: ptr("sa")},
	})
	table, _, _ := Table([]*v1alpha1.SidestepChannel{c, guarded}, Options{
		Admits: func(c *v1alpha1.SidestepChannel, from string) bool { return admits(flags("allow-all"), c, from) },
	})
	want := egress.Target{URL: "http://b-kn-channel.n.svc.cluster.local", Audience: "aud", Identity: "n/sa"}
	if r := table.Channels[0].Subscriptions[0].Reply; r.Channel != "" || r.Target != want {
		t.Errorf("reply goes to %+v", r)
	}
}
