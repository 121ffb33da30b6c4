package sequence_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/sidestep-dev/sidestep/sequence"
)

func service(name string) sequence.Destination {
	return sequence.Destination{Ref: &sequence.Ref{APIVersion: "v1", Kind: "Service", Namespace: "ns", Name: name}}
}

func uri(u string) *sequence.Destination { return &sequence.Destination{URI: u} }

func template() sequence.Template {
	return sequence.Template{
		APIVersion: sequence.SidestepVersion,
		Kind:       sequence.SidestepKind,
		Spec:       sequence.ChannelSpec{ShortCircuit: sequence.ShortCircuitAlways},
	}
}

// picture draws channels and subscriptions, one per line.
func picture(channels []sequence.Channel, subs []sequence.Subscription) string {
	var b strings.Builder
	for _, c := range channels {
		fmt.Fprintf(&b, "channel %s/%s %s\n", c.Namespace, c.Name, c.Spec.ShortCircuit)
	}
	for _, s := range subs {
		fmt.Fprintf(&b, "%s: %s -> %s -> %s", s.Name, s.Channel.Name, place(s.Subscriber), place(s.Reply))
		if s.Delivery != nil {
			fmt.Fprintf(&b, " retry %d", *s.Delivery.Retry)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func place(d *sequence.Destination) string {
	switch {
	case d == nil:
		return "-"
	case d.Ref == nil:
		return d.URI
	default:
		return d.Ref.Kind + ":" + d.Ref.Name + d.URI
	}
}

func retry(n int32) *sequence.Delivery { return &sequence.Delivery{Retry: &n} }

func TestExpand(t *testing.T) {
	filter := service("filter")
	tests := []struct {
		name string
		in   interface {
			Expand() ([]sequence.Channel, []sequence.Subscription)
		}
		want string
	}{{
		name: "a Sequence of one step replies nowhere",
		in:   &sequence.Sequence{Namespace: "ns", Name: "s", Template: template(), Steps: []sequence.Step{{Destination: service("a")}}},
		want: `
channel ns/s-kn-sequence-0 Always
s-kn-sequence-0: s-kn-sequence-0 -> Service:a -> -
`,
	}, {
		name: "each step of a Sequence replies to the next one's channel, the last to the reply",
		in: &sequence.Sequence{
			Namespace: "ns", Name: "s", Template: template(), Reply: uri("http://end"),
			Steps: []sequence.Step{{Destination: service("a"), Delivery: retry(3)}, {Destination: service("b")}, {Destination: *uri("http://c")}},
		},
		want: `
channel ns/s-kn-sequence-0 Always
channel ns/s-kn-sequence-1 Always
channel ns/s-kn-sequence-2 Always
s-kn-sequence-0: s-kn-sequence-0 -> Service:a -> SidestepChannel:s-kn-sequence-1 retry 3
s-kn-sequence-1: s-kn-sequence-1 -> Service:b -> SidestepChannel:s-kn-sequence-2
s-kn-sequence-2: s-kn-sequence-2 -> http://c -> http://end
`,
	}, {
		name: "a Sequence without steps is nothing",
		in:   &sequence.Sequence{Namespace: "ns", Name: "s", Template: template(), Reply: uri("http://end")},
		want: "\n",
	}, {
		name: "a Parallel's filters let events through to their branches",
		in: &sequence.Parallel{
			Namespace: "ns", Name: "p", Template: template(), Reply: uri("http://all"),
			Branches: []sequence.Branch{
				{Filter: &filter, Subscriber: service("a"), Delivery: retry(1)},
				{Subscriber: service("b"), Reply: uri("http://own")},
			},
		},
		want: `
channel ns/p-kn-parallel Always
channel ns/p-kn-parallel-0 Always
channel ns/p-kn-parallel-1 Always
p-kn-parallel-filter-0: p-kn-parallel -> Service:filter -> SidestepChannel:p-kn-parallel-0
p-kn-parallel-0: p-kn-parallel-0 -> Service:a -> http://all retry 1
p-kn-parallel-filter-1: p-kn-parallel -> SidestepChannel:p-kn-parallel-1 -> -
p-kn-parallel-1: p-kn-parallel-1 -> Service:b -> http://own
`,
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := "\n" + picture(tt.in.Expand()); got != tt.want {
				t.Errorf("got:%s\nwant:%s", got, tt.want)
			}
		})
	}
}

func TestBackingTakesTheTemplatesDeliveryAsAWhole(t *testing.T) {
	own, templates := retry(1), retry(2)
	if got := sequence.Backing(sequence.ChannelSpec{Delivery: templates, Ordering: sequence.PerKey}, own); got.Delivery != templates || got.Ordering != sequence.PerKey {
		t.Errorf("got %+v, want the template's", got)
	}
	if got := sequence.Backing(sequence.ChannelSpec{}, own); got.Delivery != own {
		t.Errorf("got %+v, want the Channel's own delivery", got)
	}
}

func TestDeliveries(t *testing.T) {
	sink, other := service("sink"), service("other")
	one, two := int32(1), int32(2)
	channelSink := &sequence.Delivery{Retry: &two, DeadLetterSink: &sink}
	tests := []struct {
		name                  string
		sub, channel, product *sequence.Delivery
	}{
		{name: "nothing is nothing"},
		{name: "the channel's applies to a Subscription without", channel: channelSink, product: channelSink},
		{name: "the Subscription's own goes first", sub: retry(1), channel: retry(2), product: retry(1)},
		{name: "only the sink is taken over", sub: retry(1), channel: channelSink, product: &sequence.Delivery{Retry: &one, DeadLetterSink: &sink}},
		{name: "an empty delivery spec hides the channel's retries", sub: &sequence.Delivery{}, channel: channelSink, product: &sequence.Delivery{DeadLetterSink: &sink}},
		{name: "the Subscription's own sink goes first", sub: &sequence.Delivery{DeadLetterSink: &other}, channel: channelSink, product: &sequence.Delivery{DeadLetterSink: &other}},
		{name: "a format is kept", sub: &sequence.Delivery{Format: sequence.FormatJSON}, channel: channelSink, product: &sequence.Delivery{Format: sequence.FormatJSON, DeadLetterSink: &sink}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := sequence.Deliveries(tt.sub, tt.channel); !reflect.DeepEqual(got, tt.product) {
				t.Errorf("got %+v, want %+v", got, tt.product)
			}
		})
	}
	if channelSink.DeadLetterSink != &sink || *channelSink.Retry != 2 {
		t.Error("the channel's delivery spec was changed")
	}
}
