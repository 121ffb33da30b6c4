package manifest

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/sequence"
)

// part of a destination is what a problem is about.
type part uint8

const (
	refPart part = iota
	apiVersionPart
	kindPart
	namePart
	uriPart
)

// unresolved says why a destination leads nowhere.
type unresolved struct {
	part    part
	message string
}

func (u *unresolved) Error() string { return u.message }

func nowhere(p part, format string, args ...any) *unresolved {
	return &unresolved{p, fmt.Sprintf(format, args...)}
}

// place is what a Ref names: one of our channels, or a Service's address.
type place struct {
	channel string // "namespace/name"
	address string
	why     *unresolved // neither

	reference bool // large payloads go to the address by reference
}

// index finds what destinations name.
type index struct {
	base     *url.URL // without a path
	channels map[string]*sequence.Channel
	hosts    map[string]string // host -> channel
	places   map[objectKey]place
	versions map[string]string // by kind
}

// index is made of the set's objects as they are now.
func (s *Set) index(o TableOptions) *index {
	ix := &index{
		base:     o.base(),
		channels: make(map[string]*sequence.Channel),
		hosts:    make(map[string]string),
		places:   make(map[objectKey]place),
		versions: make(map[string]string),
	}
	for kind, k := range kinds() {
		ix.versions[kind] = k.apiVersion
	}
	channels, _ := s.expand()
	for i := range channels {
		c := &channels[i]
		log := c.Namespace + "/" + c.Name
		ix.channels[log] = c
		ix.hosts[sequence.Host(c.Namespace, c.Name, o.ClusterDomain)] = log
		ix.places[objectKey{c.Kind, c.Namespace, c.Name}] = place{channel: log}
		// The one behind a Channel has its name.
		ix.places[objectKey{sequence.SidestepKind, c.Namespace, c.Name}] = place{channel: log}
	}
	for _, q := range s.sequences {
		ix.places[objectKey{sequence.SequenceKind, q.Namespace, q.Name}] = place{channel: q.Namespace + "/" + q.ChannelName(0)}
	}
	for _, p := range s.parallels {
		ix.places[objectKey{sequence.ParallelKind, p.Namespace, p.Name}] = place{channel: p.Namespace + "/" + p.ChannelName()}
	}
	for key, svc := range s.services {
		ix.places[key] = svc.place(key)
	}
	return ix
}

func (svc service) place(key objectKey) place {
	if svc.address == "" && !svc.broken {
		return place{why: nowhere(namePart,
			"%s declares no address; give it the annotation %s: http://HOST:PORT", key, addressAnnotation)}
	}
	return place{address: svc.address, reference: svc.reference}
}

// find is what a Ref from the namespace names.
func (ix *index) find(r sequence.Ref, namespace string) place {
	if r.Namespace != "" {
		namespace = r.Namespace
	}
	version, known := ix.versions[r.Kind]
	switch {
	case !known, r.Kind == sequence.SubscriptionKind, r.Kind == configMapKind, r.Kind == localPodKind:
		return place{why: nowhere(kindPart, "a %q has no address here; refer to a Service, SidestepChannel, Channel, Sequence or Parallel, or use uri", r.Kind)}
	case r.APIVersion != version:
		return place{why: nowhere(apiVersionPart, "want %s for a %s, got %q", version, r.Kind, r.APIVersion)}
	}
	if p, ok := ix.places[objectKey{r.Kind, namespace, r.Name}]; ok {
		return p
	}
	return place{why: nowhere(namePart, "no %s is declared in these files; declare it or use uri", objectKey{r.Kind, namespace, r.Name})}
}

// resolve is where events for d go: to a channel of this set, or a URL.
func (ix *index) resolve(d *sequence.Destination, namespace string) (channel.Destination, *unresolved) {
	if d.Ref == nil {
		u, why := parseURL(d.URI)
		if why != "" {
			return channel.Destination{}, nowhere(uriPart, "bad URL %q: %s", d.URI, why)
		}
		return ix.target(u, d.CACerts), nil
	}
	p := ix.find(*d.Ref, namespace)
	if p.why != nil {
		return channel.Destination{}, p.why
	}
	relative, err := url.Parse(d.URI)
	switch {
	case err != nil:
		return channel.Destination{}, nowhere(uriPart, "bad URL %q: %s", d.URI, withoutURL(err))
	case relative.IsAbs():
		return channel.Destination{}, nowhere(uriPart, "want a relative URI beside a ref, got %q", d.URI)
	case p.channel != "" && relative.String() != "" && relative.String() != "/":
		return channel.Destination{}, nowhere(uriPart, "a channel has one path only; leave %q out", d.URI)
	case p.channel != "":
		return channel.Destination{Channel: p.channel}, nil
	}
	base, why := parseURL(p.address)
	if why != "" { // reported where it stands
		return channel.Destination{}, nil
	}
	u := base.ResolveReference(relative)
	if _, why := parseURL(u.String()); why != "" {
		return channel.Destination{}, nowhere(uriPart, "bad URL %q: %s", u, why)
	}
	dest := ix.target(u, d.CACerts)
	dest.Target.Reference = p.reference && dest.Channel == ""
	return dest, nil
}

// target is a URL, or the channel whose address it is.
func (ix *index) target(u *url.URL, caCerts string) channel.Destination {
	if u.User == nil && u.RawQuery == "" {
		if log, ok := ix.byURL(u); ok {
			return channel.Destination{Channel: log}
		}
	}
	return channel.Destination{Target: egress.Target{URL: u.String(), CACerts: caCerts}}
}

func (ix *index) byURL(u *url.URL) (log string, ok bool) {
	if u.Scheme == ix.base.Scheme && strings.EqualFold(u.Host, ix.base.Host) {
		log, ok = strings.CutPrefix(u.Path, "/")
		_, known := ix.channels[log]
		return log, ok && known
	}
	if u.Scheme != "http" || u.Path != "" && u.Path != "/" {
		return "", false
	}
	log, ok = ix.hosts[strings.ToLower(strings.TrimSuffix(u.Host, ":80"))]
	return log, ok
}
