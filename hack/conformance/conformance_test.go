package conformance

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rickb777/date/period"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	"knative.dev/eventing/pkg/apis/feature"
	messagingv1 "knative.dev/eventing/pkg/apis/messaging/v1"
	"knative.dev/eventing/pkg/duck"
	parallelresources "knative.dev/eventing/pkg/reconciler/parallel/resources"
	sequenceresources "knative.dev/eventing/pkg/reconciler/sequence/resources"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/kmeta"

	"github.com/sidestep-dev/sidestep/sequence"
)

// objects is how many of each kind are generated. The seeds are fixed: a
// failure comes back.
const objects = 2000

func TestSequencesExpandAsKnativesReconcilerDoes(t *testing.T) {
	for i := range uint64(objects) {
		g := generator{rand.New(rand.NewPCG(1, i))}
		theirs := g.sequence()
		ctx := webhook()
		theirs.SetDefaults(ctx)
		if err := theirs.Validate(ctx); err != nil {
			t.Fatalf("seed %d: the generator made an invalid Sequence: %v", i, err)
		}
		ours := sequence.Sequence{
			Namespace: theirs.Namespace,
			Name:      theirs.Name,
			Template:  template(theirs.Spec.ChannelTemplate),
			Reply:     destination(theirs.Spec.Reply),
		}
		var channels []channel
		var subs []*messagingv1.Subscription
		for n, s := range theirs.Spec.Steps {
			ours.Steps = append(ours.Steps, sequence.Step{Destination: *destination(&s.Destination), Delivery: delivery(s.Delivery)})
			channels = append(channels, physical(t, theirs.Spec.ChannelTemplate, theirs.Namespace, sequenceresources.SequenceChannelName(theirs.Name, n)))
			subs = append(subs, sequenceresources.NewSubscription(n, theirs))
		}
		gotChannels, gotSubs := ours.Expand()
		compare(t, i, channels, subs, gotChannels, gotSubs)
		if name := sequenceresources.SequenceSubscriptionName(theirs.Name, 3); name != ours.ChannelName(3) {
			t.Errorf("seed %d: Subscription %s, want %s", i, ours.ChannelName(3), name)
		}
	}
}

func TestParallelsExpandAsKnativesReconcilerDoes(t *testing.T) {
	for i := range uint64(objects) {
		g := generator{rand.New(rand.NewPCG(2, i))}
		theirs := g.parallel()
		ctx := webhook()
		theirs.SetDefaults(ctx)
		if err := theirs.Validate(ctx); err != nil {
			t.Fatalf("seed %d: the generator made an invalid Parallel: %v", i, err)
		}
		ours := sequence.Parallel{
			Namespace: theirs.Namespace,
			Name:      theirs.Name,
			Template:  template(theirs.Spec.ChannelTemplate),
			Reply:     destination(theirs.Spec.Reply),
		}
		channels := []channel{physical(t, theirs.Spec.ChannelTemplate, theirs.Namespace, parallelresources.ParallelChannelName(theirs.Name))}
		var subs []*messagingv1.Subscription
		for n, b := range theirs.Spec.Branches {
			ours.Branches = append(ours.Branches, sequence.Branch{
				Filter:     destination(b.Filter),
				Subscriber: *destination(&b.Subscriber),
				Reply:      destination(b.Reply),
				Delivery:   delivery(b.Delivery),
			})
			channels = append(channels, physical(t, theirs.Spec.ChannelTemplate, theirs.Namespace, parallelresources.ParallelBranchChannelName(theirs.Name, n)))
			subs = append(subs, parallelresources.NewFilterSubscription(n, theirs), parallelresources.NewSubscription(n, theirs))
		}
		gotChannels, gotSubs := ours.Expand()
		compare(t, i, channels, subs, gotChannels, gotSubs)
	}
}

func TestChannelsAreBackedAsByKnativesReconciler(t *testing.T) {
	for i := range uint64(objects) {
		g := generator{rand.New(rand.NewPCG(3, i))}
		c := &messagingv1.Channel{ObjectMeta: g.meta()}
		c.Spec.ChannelTemplate = g.template()
		c.Spec.Delivery = g.delivery()
		got := sequence.Backing(template(c.Spec.ChannelTemplate).Spec, delivery(c.Spec.Delivery))

		u, err := duck.NewPhysicalChannel(c.Spec.ChannelTemplate.TypeMeta, metav1.ObjectMeta{Name: c.Name, Namespace: c.Namespace},
			duck.WithChannelableSpec(c.Spec.ChannelableSpec), duck.WithPhysicalChannelSpec(c.Spec.ChannelTemplate.Spec))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(readChannel(t, u).Spec, got); diff != "" {
			t.Errorf("seed %d: backing spec (-Knative, +ours):\n%s", i, diff)
		}
	}
}

func TestChildNameIsKmetas(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(4, 0))}
	for range 20 * objects {
		parent, suffix := g.name(90), g.name(70)
		if g.IntN(2) == 0 {
			suffix = "-kn-channel"
		}
		if g.IntN(3) == 0 {
			suffix += strings.Repeat("-", g.IntN(40))
		}
		if want, got := kmeta.ChildName(parent, suffix), sequence.ChildName(parent, suffix); got != want {
			t.Fatalf("ChildName(%q, %q) = %q, Knative's is %q", parent, suffix, got, want)
		}
	}
}

// TestDurationsAreKnatives: what we take Knative takes, and it means the same.
func TestDurationsAreKnatives(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(5, 0))}
	taken := 0
	for range 50 * objects {
		s := g.durationText()
		ours, err := sequence.ParseDuration(s)
		if err != nil {
			continue
		}
		taken++
		p, err := period.Parse(s)
		if err != nil {
			t.Fatalf("ParseDuration(%q) = %v, Knative refuses it: %v", s, ours, err)
		}
		if theirs, _ := p.Duration(); theirs != ours {
			t.Fatalf("ParseDuration(%q) = %v, Knative's is %v", s, ours, theirs)
		}
	}
	if taken < objects {
		t.Fatalf("only %d durations were taken: the generator tests nothing", taken)
	}
}

func TestADurationThatKnativeCannotTellFromZeroIsKeptByUs(t *testing.T) {
	p, err := period.Parse("PT0.05S")
	if err != nil || !p.IsZero() {
		t.Fatalf("Knative reads PT0.05S as %v, %v: the manifest package refuses it as a timeout for nothing", p, err)
	}
	if d, err := sequence.ParseDuration("PT0.05S"); err != nil || d != 50*time.Millisecond {
		t.Errorf("got %v, %v", d, err)
	}
}

// channel is what Knative makes, in our words.
type channel struct {
	APIVersion, Kind, Namespace, Name string
	Spec                              sequence.ChannelSpec
}

func compare(t *testing.T, seed uint64, channels []channel, subs []*messagingv1.Subscription, gotChannels []sequence.Channel, gotSubs []sequence.Subscription) {
	t.Helper()
	var got []channel
	for _, c := range gotChannels {
		got = append(got, channel(c))
	}
	if diff := cmp.Diff(channels, got); diff != "" {
		t.Errorf("seed %d: channels (-Knative, +ours):\n%s", seed, diff)
	}
	var want []sequence.Subscription
	for _, s := range subs {
		want = append(want, sequence.Subscription{
			Namespace:  s.Namespace,
			Name:       s.Name,
			Channel:    *reference(&s.Spec.Channel),
			Subscriber: destination(s.Spec.Subscriber),
			Reply:      destination(s.Spec.Reply),
			Delivery:   delivery(s.Spec.Delivery),
		})
		s.SetDefaults(webhook())
		if err := s.Validate(webhook()); err != nil {
			t.Fatalf("seed %d: Knative refuses its own Subscription: %v", seed, err)
		}
	}
	if diff := cmp.Diff(want, gotSubs); diff != "" {
		t.Errorf("seed %d: Subscriptions (-Knative, +ours):\n%s", seed, diff)
	}
}

// physical is the channel that Sequence's and Parallel's reconcilers create.
func physical(t *testing.T, tpl *messagingv1.ChannelTemplateSpec, namespace, name string) channel {
	t.Helper()
	u, err := duck.NewPhysicalChannel(tpl.TypeMeta, metav1.ObjectMeta{Name: name, Namespace: namespace}, duck.WithPhysicalChannelSpec(tpl.Spec))
	if err != nil {
		t.Fatal(err)
	}
	return readChannel(t, u)
}

func readChannel(t *testing.T, u json.Marshaler) channel {
	t.Helper()
	raw, err := u.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var o struct {
		metav1.TypeMeta
		Metadata metav1.ObjectMeta
		Spec     *runtime.RawExtension
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		t.Fatal(err)
	}
	return channel{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Spec: channelSpec(o.Spec)}
}

// webhook is the context in which Knative's webhook works, with the
// experimental fields of the delivery spec allowed.
func webhook() context.Context {
	ctx := feature.ToContext(context.Background(), feature.Flags{
		feature.DeliveryTimeout:    feature.Enabled,
		feature.DeliveryRetryAfter: feature.Enabled,
	})
	return apis.AllowDifferentNamespace(ctx)
}

func template(t *messagingv1.ChannelTemplateSpec) sequence.Template {
	return sequence.Template{APIVersion: t.APIVersion, Kind: t.Kind, Spec: channelSpec(t.Spec)}
}

func channelSpec(raw *runtime.RawExtension) sequence.ChannelSpec {
	var s struct {
		Ordering, ShortCircuit string
		Delivery               *eventingduckv1.DeliverySpec
	}
	if raw != nil {
		if err := json.Unmarshal(raw.Raw, &s); err != nil {
			panic(err) // the generator wrote it
		}
	}
	return sequence.ChannelSpec{Ordering: s.Ordering, ShortCircuit: s.ShortCircuit, Delivery: delivery(s.Delivery)}
}

func reference(r *duckv1.KReference) *sequence.Ref {
	if r == nil {
		return nil
	}
	return &sequence.Ref{APIVersion: r.APIVersion, Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
}

func destination(d *duckv1.Destination) *sequence.Destination {
	if d == nil {
		return nil
	}
	return &sequence.Destination{Ref: reference(d.Ref), URI: d.URI.String(), CACerts: value(d.CACerts), Audience: value(d.Audience)}
}

func delivery(d *eventingduckv1.DeliverySpec) *sequence.Delivery {
	if d == nil {
		return nil
	}
	return &sequence.Delivery{
		DeadLetterSink: destination(d.DeadLetterSink),
		Retry:          d.Retry,
		Timeout:        length(d.Timeout),
		BackoffPolicy:  string(value(d.BackoffPolicy)),
		BackoffDelay:   length(d.BackoffDelay),
		RetryAfterMax:  length(d.RetryAfterMax),
		Format:         string(value(d.Format)),
	}
}

func length(s *string) *time.Duration {
	if s == nil {
		return nil
	}
	d, err := sequence.ParseDuration(*s)
	if err != nil {
		panic(err) // the generator wrote it
	}
	return &d
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func itoa(n int) string { return strconv.Itoa(n) }
