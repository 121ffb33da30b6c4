package manifest

import (
	"fmt"
	"regexp"

	"go.yaml.in/yaml/v3"

	"github.com/sidestep-dev/sidestep/sequence"
)

// document is one YAML document on its way to an object.
type document struct {
	load *loading
	file string
	// broken: a problem was found in it.
	broken bool

	apiVersion, kind string
	meta             metadata
}

// objectKey names an object. One name is one object whatever its version.
type objectKey struct{ kind, namespace, name string }

func (k objectKey) String() string {
	return fmt.Sprintf("%s %q in namespace %q", k.kind, k.name, k.namespace)
}

// metadata is what matters of an object's metadata.
type metadata struct {
	at              value
	namespace, name string
	nameAt          value
	annotations     map[string]string
	annotationAt    map[string]value
}

// kindOf knows how to decode a kind.
type kindOf struct {
	apiVersion string
	decode     func(d *document, root value)
}

func kinds() map[string]kindOf {
	return map[string]kindOf{
		sequence.SequenceKind:     {sequence.FlowsVersion, (*document).decodeSequence},
		sequence.ParallelKind:     {sequence.FlowsVersion, (*document).decodeParallel},
		sequence.ChannelKind:      {sequence.MessagingVersion, (*document).decodeChannel},
		sequence.SubscriptionKind: {sequence.MessagingVersion, (*document).decodeSubscription},
		sequence.SidestepKind:     {sequence.SidestepVersion, (*document).decodeSidestepChannel},
		localPodKind:              {localPodVersion, (*document).decodeLocalPod},
		serviceKind:               {"v1", (*document).decodeService},
		configMapKind:             {"v1", (*document).decodeConfigMap},
	}
}

const (
	serviceKind   = "Service"
	configMapKind = "ConfigMap"
)

// decode takes in a document: first what it is, then the rest of it.
func (d *document) decode(root value) {
	var apiVersionAt, kindAt value
	if root.node.Kind != yaml.MappingNode {
		root.problem("want an object, got %s", root.kind())
		return
	}
	root.eachFieldQuietly(func(key string, field value) {
		switch {
		case field.null():
		case key == "apiVersion":
			apiVersionAt, d.apiVersion = field, field.str()
		case key == "kind":
			kindAt, d.kind = field, field.str()
		}
	})
	if d.kind == "" {
		if !d.broken {
			root.at("kind").problem("is required")
		}
		return
	}
	k, ok := kinds()[d.kind]
	if !ok {
		kindAt.problem("unknown kind %q; known are Sequence, Parallel, Subscription, Channel, SidestepChannel, LocalPod, Service and ConfigMap", kindAt.text())
		return
	}
	switch d.apiVersion {
	case k.apiVersion:
		k.decode(d, root)
	case "":
		root.at("apiVersion").problem("is required: %s for a %s", k.apiVersion, d.kind)
	default:
		apiVersionAt.problem("want %s for a %s, got %q", k.apiVersion, d.kind, d.apiVersion)
	}
}

// fields adds those that every object has to those given.
func (d *document) fields(own fields) fields {
	all := fields{"apiVersion": ignored, "kind": ignored, "metadata": ignored, "status": ignored}
	for k, f := range own {
		all[k] = f
	}
	return all
}

var (
	label     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// nameRule is what Kubernetes asks of a name.
type nameRule struct {
	pattern *regexp.Regexp
	most    int
	words   string
}

// labelName is for what becomes part of a host name; it is that of
// namespaces, too.
func labelName() nameRule {
	return nameRule{label, 63, "at most 63 lower-case letters, digits and '-', beginning and ending with a letter or digit (DNS-1123 label)"}
}

func subdomainName() nameRule {
	return nameRule{subdomain, 253, "at most 253 lower-case letters, digits, '-' and '.', each part beginning and ending with a letter or digit (DNS-1123 subdomain)"}
}

func (r nameRule) check(v value, name string) {
	if name != "" && (len(name) > r.most || !r.pattern.MatchString(name)) {
		v.problem("%q is not a valid name: want %s", v.text(), r.words)
	}
}

// decodeMeta reads metadata and declares the object. Documents come in any
// order, so the namespace must be known before anything else is read.
func (d *document) decodeMeta(root value, rule nameRule) {
	m := &d.meta
	m.namespace, m.at, m.nameAt = "default", root.at("metadata"), root.at("metadata.name")
	root.eachFieldQuietly(func(key string, field value) {
		if key != "metadata" {
			return
		}
		m.at = field
		m.nameAt = field.at("name")
		field.object(metadataFields(m, rule))
	})
	if m.name == "" {
		m.nameAt.problem("is required")
		return
	}
	key := objectKey{d.kind, m.namespace, m.name}
	if first, ok := d.load.declared[key]; ok {
		m.nameAt.problem("%s is declared twice; first at %s:%d", key, first.doc.file, first.line)
		return
	}
	d.load.declared[key] = m.nameAt
}

func metadataFields(m *metadata, rule nameRule) fields {
	fs := fields{
		"name": func(v value) {
			m.nameAt, m.name = v, v.str()
			rule.check(v, m.name)
		},
		"namespace": func(v value) {
			if s := v.str(); s != "" {
				m.namespace = s
				labelName().check(v, s)
			}
		},
		"labels": func(v value) { v.stringMap() },
		"annotations": func(v value) {
			m.annotations = v.stringMap()
			m.annotationAt = make(map[string]value)
			v.eachFieldQuietly(func(key string, field value) { m.annotationAt[key] = field })
		},
	}
	for _, k := range []string{
		"generateName", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
		"deletionGracePeriodSeconds", "ownerReferences", "finalizers", "managedFields", "selfLink",
	} {
		fs[k] = ignored
	}
	return fs
}
