package manifest

import (
	"slices"

	"github.com/sidestep-dev/sidestep/sequence"
)

// decodeSpec reads an object's spec, which it must have, with the fields that
// are required in it.
func (d *document) decodeSpec(root value, spec fields, required ...string) {
	root.object(d.fields(fields{"spec": func(v value) {
		v.object(spec)
		v.require(required...)
	}}))
	root.require("spec")
}

func (d *document) decodeSequence(root value) {
	d.decodeMeta(root, labelName())
	s := &sequence.Sequence{Namespace: d.meta.namespace, Name: d.meta.name, Template: sidestepTemplate()}
	d.decodeSpec(root, fields{
		"steps":           func(v value) { v.nonEmptyList(func(item value) { s.Steps = append(s.Steps, d.step(item)) }) },
		"channelTemplate": func(v value) { s.Template = d.template(v) },
		"reply":           func(v value) { s.Reply = d.destination(v, nil) },
	}, "steps")
	d.load.set.sequences = append(d.load.set.sequences, s)
}

func (d *document) step(v value) sequence.Step {
	var s sequence.Step
	s.Destination = *d.destination(v, fields{
		"delivery": func(v value) { s.Delivery = d.delivery(v) },
	})
	return s
}

func (d *document) decodeParallel(root value) {
	d.decodeMeta(root, labelName())
	p := &sequence.Parallel{Namespace: d.meta.namespace, Name: d.meta.name, Template: sidestepTemplate()}
	d.decodeSpec(root, fields{
		"branches":        func(v value) { v.nonEmptyList(func(item value) { p.Branches = append(p.Branches, d.branch(item)) }) },
		"channelTemplate": func(v value) { p.Template = d.template(v) },
		"reply":           func(v value) { p.Reply = d.destination(v, nil) },
	}, "branches")
	d.load.set.parallels = append(d.load.set.parallels, p)
}

func (d *document) branch(v value) sequence.Branch {
	var b sequence.Branch
	v.object(fields{
		"filter":     func(v value) { b.Filter = d.destination(v, nil) },
		"subscriber": func(v value) { b.Subscriber = *d.destination(v, nil) },
		"reply":      func(v value) { b.Reply = d.destination(v, nil) },
		"delivery":   func(v value) { b.Delivery = d.delivery(v) },
	})
	v.require("subscriber")
	return b
}

// sidestepTemplate is what channels are made of where nothing else is said. On
// a cluster the default is an administrator's choice.
func sidestepTemplate() sequence.Template {
	return sequence.Template{APIVersion: sequence.SidestepVersion, Kind: sequence.SidestepKind}
}

// template reads the channelTemplate of a Sequence or Parallel: SidestepChannels
// or Channels that SidestepChannels are behind.
func (d *document) template(v value) sequence.Template {
	switch t := d.templateType(v, sequence.SidestepKind, sequence.ChannelKind); t.Kind {
	case sequence.SidestepKind:
		v.object(templateFields(func(v value) { t.Spec = d.sidestepSpec(v) }))
		return t
	case sequence.ChannelKind:
		v.object(templateFields(func(v value) { t.Spec = d.channelSpec(v) }))
		return t
	default:
		return sidestepTemplate()
	}
}

func templateFields(spec func(value)) fields {
	return fields{"apiVersion": ignored, "kind": ignored, "spec": spec}
}

// templateType reads what a template makes; its zero value is one that was
// reported.
func (d *document) templateType(v value, allowed ...string) sequence.Template {
	versions := map[string]string{
		sequence.SidestepKind: sequence.SidestepVersion,
		sequence.ChannelKind:  sequence.MessagingVersion,
	}
	var t sequence.Template
	var versionAt, kindAt value
	v.eachFieldQuietly(func(key string, field value) {
		switch {
		case field.null():
		case key == "apiVersion":
			versionAt, t.APIVersion = field, field.str()
		case key == "kind":
			kindAt, t.Kind = field, field.str()
		}
	})
	switch {
	case kindAt.doc == nil:
		v.at("kind").problem("is required: %s", orList(allowed))
	case !slices.Contains(allowed, t.Kind):
		kindAt.problem("want %s, got %q: other channels do not run here", orList(allowed), kindAt.text())
	case versionAt.doc == nil:
		v.at("apiVersion").problem("is required: %s for a %s", versions[t.Kind], t.Kind)
	case t.APIVersion != versions[t.Kind]:
		versionAt.problem("want %s for a %s, got %q", versions[t.Kind], t.Kind, versionAt.text())
	default:
		return t
	}
	return sequence.Template{}
}
