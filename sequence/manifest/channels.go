package manifest

import (
	"github.com/sidestep-dev/sidestep/sequence"
)

func (d *document) decodeSidestepChannel(root value) {
	d.decodeMeta(root, labelName())
	c := &sequence.Channel{APIVersion: d.apiVersion, Kind: d.kind, Namespace: d.meta.namespace, Name: d.meta.name}
	root.object(d.fields(fields{"spec": func(v value) { c.Spec = d.sidestepSpec(v) }}))
	d.load.set.channels = append(d.load.set.channels, c)
}

func (d *document) decodeChannel(root value) {
	d.decodeMeta(root, labelName())
	c := &sequence.Channel{APIVersion: d.apiVersion, Kind: d.kind, Namespace: d.meta.namespace, Name: d.meta.name}
	root.object(d.fields(fields{"spec": func(v value) { c.Spec = d.channelSpec(v) }}))
	d.load.set.channels = append(d.load.set.channels, c)
}

// sidestepSpec reads the spec of a SidestepChannel.
func (d *document) sidestepSpec(v value) sequence.ChannelSpec {
	var s sequence.ChannelSpec
	v.object(fields{
		"ordering": func(v value) { s.Ordering = v.oneOf(sequence.Unordered, sequence.PerKey) },
		"shortCircuit": func(v value) {
			s.ShortCircuit = v.oneOf(sequence.ShortCircuitColocated, sequence.ShortCircuitAlways, sequence.ShortCircuitNever)
		},
		"delivery":    func(v value) { s.Delivery = d.delivery(v) },
		"subscribers": notYours,
	})
	return s
}

// channelSpec reads the spec of a Channel into that of the SidestepChannel
// behind it.
func (d *document) channelSpec(v value) sequence.ChannelSpec {
	var template sequence.ChannelSpec
	var delivery *sequence.Delivery
	v.object(fields{
		"channelTemplate": func(v value) {
			d.templateType(v, sequence.SidestepKind)
			v.object(templateFields(func(v value) { template = d.sidestepSpec(v) }))
		},
		"delivery":    func(v value) { delivery = d.delivery(v) },
		"subscribers": notYours,
	})
	return sequence.Backing(template, delivery)
}

func notYours(v value) {
	v.problem("is written by Knative; declare a Subscription instead")
}

func (d *document) decodeSubscription(root value) {
	d.decodeMeta(root, subdomainName())
	s := &sequence.Subscription{Namespace: d.meta.namespace, Name: d.meta.name}
	d.decodeSpec(root, fields{
		"channel":    func(v value) { s.Channel = d.channelRef(v) },
		"subscriber": func(v value) { s.Subscriber = d.destination(v, nil) },
		"reply":      func(v value) { s.Reply = d.destination(v, nil) },
		"delivery":   func(v value) { s.Delivery = d.delivery(v) },
	}, "channel", "subscriber")
	d.load.set.subscriptions = append(d.load.set.subscriptions, s)
}

// channelRef reads the channel of a Subscription, which is in its namespace.
func (d *document) channelRef(v value) sequence.Ref {
	r := d.reference(v, true)
	if r.complete() && r.ref.Kind != sequence.ChannelKind && r.ref.Kind != sequence.SidestepKind {
		r.kind.problem("want %s or %s, got %q", sequence.ChannelKind, sequence.SidestepKind, r.kind.text())
		return r.ref
	}
	if r.complete() {
		d.load.checks = append(d.load.checks, func(ix *index) {
			if p := ix.find(r.ref, d.meta.namespace); p.why != nil {
				r.part(p.why.part).problem("%s", p.why.message)
			}
		})
	}
	return r.ref
}
