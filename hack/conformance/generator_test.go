package conformance

import (
	"encoding/json"
	"math/rand/v2"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	flowsv1 "knative.dev/eventing/pkg/apis/flows/v1"
	messagingv1 "knative.dev/eventing/pkg/apis/messaging/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
)

// generator makes valid objects, with every field now present and now absent.
type generator struct{ *rand.Rand }

func (g generator) sequence() *flowsv1.Sequence {
	s := &flowsv1.Sequence{ObjectMeta: g.meta()}
	s.Spec.ChannelTemplate = g.template()
	s.Spec.Reply = g.maybe()
	for range 1 + g.IntN(5) {
		s.Spec.Steps = append(s.Spec.Steps, flowsv1.SequenceStep{Destination: g.destination(), Delivery: g.delivery()})
	}
	return s
}

func (g generator) parallel() *flowsv1.Parallel {
	p := &flowsv1.Parallel{ObjectMeta: g.meta()}
	p.Spec.ChannelTemplate = g.template()
	p.Spec.Reply = g.maybe()
	for range 1 + g.IntN(5) {
		p.Spec.Branches = append(p.Spec.Branches, flowsv1.ParallelBranch{
			Filter:     g.maybe(),
			Subscriber: g.destination(),
			Reply:      g.maybe(),
			Delivery:   g.delivery(),
		})
	}
	return p
}

func (g generator) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: g.name(20), Name: g.name(63)}
}

func (g generator) template() *messagingv1.ChannelTemplateSpec {
	t := &messagingv1.ChannelTemplateSpec{TypeMeta: metav1.TypeMeta{APIVersion: "messaging.sidestep.dev/v1alpha1", Kind: "SidestepChannel"}}
	if g.IntN(5) == 0 {
		return t
	}
	spec := make(map[string]any)
	if g.IntN(2) == 0 {
		spec["shortCircuit"] = "Always"
	}
	if g.IntN(2) == 0 {
		spec["ordering"] = "PerKey"
	}
	if d := g.delivery(); d != nil {
		spec["delivery"] = d
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		panic(err)
	}
	t.Spec = &runtime.RawExtension{Raw: raw}
	return t
}

func (g generator) maybe() *duckv1.Destination {
	if g.IntN(2) == 0 {
		return nil
	}
	d := g.destination()
	return &d
}

func (g generator) destination() duckv1.Destination {
	var d duckv1.Destination
	kind := g.IntN(3)
	if kind == 0 {
		d.URI = &apis.URL{Scheme: "http", Host: g.name(12), Path: "/" + g.name(5)}
	} else {
		d.Ref = &duckv1.KReference{APIVersion: "v1", Kind: "Service", Name: g.name(30)}
		if g.IntN(3) == 0 {
			d.Ref.Namespace = g.name(10)
		}
	}
	if kind == 2 {
		d.URI = &apis.URL{Path: "/" + g.name(5)}
	}
	if g.IntN(4) == 0 {
		audience := g.name(8)
		d.Audience = &audience
	}
	return d
}

func (g generator) delivery() *eventingduckv1.DeliverySpec {
	if g.IntN(3) == 0 {
		return nil
	}
	d := &eventingduckv1.DeliverySpec{DeadLetterSink: g.maybe()}
	if g.IntN(2) == 0 {
		n := g.Int32N(10)
		d.Retry = &n
	}
	if g.IntN(2) == 0 {
		p := eventingduckv1.BackoffPolicyType([]string{"linear", "exponential"}[g.IntN(2)])
		d.BackoffPolicy = &p
	}
	if g.IntN(2) == 0 {
		f := eventingduckv1.FormatType([]string{"json", "binary"}[g.IntN(2)])
		d.Format = &f
	}
	for _, at := range []**string{&d.Timeout, &d.BackoffDelay, &d.RetryAfterMax} {
		if g.IntN(2) == 0 {
			s := "PT" + itoa(1+g.IntN(100)) + "S"
			*at = &s
		}
	}
	return d
}

// name is a DNS-1123 label of at most most bytes, often a long one.
func (g generator) name(most int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	n := 1 + g.IntN(most)
	if g.IntN(4) == 0 {
		n = most
	}
	var b strings.Builder
	for i := range n {
		if i > 0 && i < n-1 && g.IntN(8) == 0 {
			b.WriteByte('-')
			continue
		}
		b.WriteByte(letters[g.IntN(len(letters))])
	}
	return b.String()
}

// durationText is an ISO 8601 duration, or something that looks like one. Its
// numbers are within what Knative can tell apart: below its 16 bits, and with
// fractions of a tenth, in fields where it does not round them.
func (g generator) durationText() string {
	var b strings.Builder
	b.WriteByte('P')
	g.fields(&b, "YM", false)
	g.fields(&b, "WD", true)
	if g.IntN(3) > 0 {
		b.WriteByte('T')
		g.fields(&b, "HMS", true)
	}
	s := b.String()
	if g.IntN(10) == 0 { // a slip of the pen
		at := g.IntN(len(s) + 1)
		s = s[:at] + string("PTDHMS- +"[g.IntN(9)]) + s[at:]
	}
	return s
}

func (g generator) fields(b *strings.Builder, units string, fractions bool) {
	for _, u := range units {
		if g.IntN(2) == 0 {
			continue
		}
		b.WriteString(itoa(g.IntN(100)))
		if fractions && g.IntN(4) == 0 {
			b.WriteString([]string{".", ","}[g.IntN(2)] + itoa(g.IntN(10)))
		}
		b.WriteRune(u)
	}
}
