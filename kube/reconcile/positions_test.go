package reconcile

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	"knative.dev/pkg/apis"

	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func sub(uid string, generation int64) eventingduckv1.SubscriberSpec {
	return eventingduckv1.SubscriberSpec{UID: types.UID(uid), Generation: generation, SubscriberURI: apis.HTTP("x")}
}

func at(state v1alpha1.PositionState, s eventingduckv1.SubscriberSpec, ago time.Duration) v1alpha1.Position {
	p := v1alpha1.Position{Subscriber: s, State: state}
	if ago >= 0 {
		since := metav1.NewTime(epoch.Add(-ago))
		p.Since = &since
	}
	return p
}

// show writes positions as "uid/generation:State".
func show(ps []v1alpha1.Position) string {
	var out []string
	for _, p := range ps {
		out = append(out, string(p.Subscriber.UID)+":"+string(p.State))
	}
	return strings.Join(out, " ")
}

func TestPositionsFollowSpecSubscribers(t *testing.T) {
	const never = -1
	tests := []struct {
		name    string
		have    []v1alpha1.Position
		spec    []eventingduckv1.SubscriberSpec
		want    string
		changed bool
	}{
		{"a new one is pending", nil, []eventingduckv1.SubscriberSpec{sub("a", 1)}, "a:Pending", true},
		{"one that cannot be used gets none", nil, []eventingduckv1.SubscriberSpec{{UID: "a"}}, "", false},
		{"one without a uid gets none", nil, []eventingduckv1.SubscriberSpec{sub("", 1)}, "", false},
		{"twice the same is one", nil, []eventingduckv1.SubscriberSpec{sub("a", 1), sub("a", 1)}, "a:Pending", true},
		{"nothing to do", []v1alpha1.Position{at(v1alpha1.Active, sub("a", 1), never)}, []eventingduckv1.SubscriberSpec{sub("a", 1)}, "a:Active", false},
		{"a later generation is noted", []v1alpha1.Position{at(v1alpha1.Active, sub("a", 1), never)}, []eventingduckv1.SubscriberSpec{sub("a", 2)}, "a:Active", true},
		{"one that leaves drains", []v1alpha1.Position{at(v1alpha1.Active, sub("a", 1), never)}, nil, "a:Draining", true},
		{"one that was not made yet leaves at once", []v1alpha1.Position{at(v1alpha1.Pending, sub("a", 1), never)}, nil, "a:Leaving", true},
		{"one that comes back while it drains", []v1alpha1.Position{at(v1alpha1.Draining, sub("a", 1), 0)}, []eventingduckv1.SubscriberSpec{sub("a", 1)}, "a:Active", true},
		{"one that comes back while it is held", []v1alpha1.Position{at(v1alpha1.Held, sub("a", 1), 0)}, []eventingduckv1.SubscriberSpec{sub("a", 1)}, "a:Active", true},
		{"one that comes back too late is finished first", []v1alpha1.Position{at(v1alpha1.Leaving, sub("a", 1), 0)}, []eventingduckv1.SubscriberSpec{sub("a", 1)}, "a:Leaving", false},
		{
			"a lost update and its repair",
			[]v1alpha1.Position{at(v1alpha1.Active, sub("a", 1), never), at(v1alpha1.Active, sub("b", 1), never)},
			[]eventingduckv1.SubscriberSpec{sub("b", 1), sub("c", 1)},
			"a:Draining b:Active c:Pending", true,
		},
	}
	for _, tt := range tests {
		c := &v1alpha1.SidestepChannel{}
		c.Spec.Subscribers, c.Status.Positions = tt.spec, tt.have
		got, changed := positions(c, epoch)
		if show(got) != tt.want || changed != tt.changed {
			t.Errorf("%s: %q (changed %v), want %q", tt.name, show(got), changed, tt.want)
		}
		for _, p := range got {
			if gone := p.State == v1alpha1.Draining || p.State == v1alpha1.Held; gone != (p.Since != nil) && p.State != v1alpha1.Leaving {
				t.Errorf("%s: %s since %v", tt.name, p.State, p.Since)
			}
		}
	}
}

func TestPositionsAgeWithTimeAndWithWhatIsLeft(t *testing.T) {
	const drain = 30 * time.Second
	tests := []struct {
		name  string
		state v1alpha1.PositionState
		gone  time.Duration
		left  map[types.UID]int64
		want  v1alpha1.PositionState
	}{
		{"something is left", v1alpha1.Draining, time.Second, map[types.UID]int64{"a": 1}, v1alpha1.Draining},
		{"what is left is not known", v1alpha1.Draining, time.Second, nil, v1alpha1.Draining},
		{"nothing is left", v1alpha1.Draining, time.Second, map[types.UID]int64{"a": 0}, v1alpha1.Held},
		{"its time is over", v1alpha1.Draining, drain, map[types.UID]int64{"a": 1}, v1alpha1.Held},
		{"it may come back", v1alpha1.Held, grace - time.Second, nil, v1alpha1.Held},
		{"it does not come back", v1alpha1.Held, grace, nil, v1alpha1.Leaving},
		{"it is there", v1alpha1.Active, -1, map[types.UID]int64{"a": 0}, v1alpha1.Active},
	}
	for _, tt := range tests {
		ps := []v1alpha1.Position{at(tt.state, sub("a", 1), tt.gone)}
		if changed := age(ps, tt.left, epoch, drain); ps[0].State != tt.want || changed != (tt.want != tt.state) {
			t.Errorf("%s: %s (changed %v), want %s", tt.name, ps[0].State, changed, tt.want)
		}
	}
}

func TestWhatAgesIsLookedAtInTime(t *testing.T) {
	if d := nextLook([]v1alpha1.Position{at(v1alpha1.Active, sub("a", 1), -1)}, epoch); d != 0 {
		t.Errorf("what is there is looked at in %v", d)
	}
	held := at(v1alpha1.Held, sub("a", 1), 10*time.Second)
	if d := nextLook([]v1alpha1.Position{held}, epoch); d != grace-10*time.Second {
		t.Errorf("what is held is looked at in %v", d)
	}
	draining := at(v1alpha1.Draining, sub("b", 1), 0)
	if d := nextLook([]v1alpha1.Position{held, draining}, epoch); d != drainPoll {
		t.Errorf("what drains is looked at in %v", d)
	}
}
