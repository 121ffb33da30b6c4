package watch

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"knative.dev/pkg/apis"

	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/internal/rollcall"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
	"github.com/sidestep-dev/sidestep/sequence"
)

// Options of a table.
type Options struct {
	// ClusterDomain ends the host names of Services, "" means cluster.local.
	ClusterDomain string
	// Dispatcher is the host name of the dispatchers' Service, under which
	// channels have paths.
	Dispatcher string
	// ByReference tells whether a subscriber takes large payloads by reference, by its
	// URL; nil: none does.
	ByReference func(url string) bool
	// ShortCircuit is for channels that do not say.
	ShortCircuit channel.ShortCircuit
	// Admits tells whether what a subscription sends to a channel would be let
	// in by the channel for certain. nil: it always would. Where it might not
	// be, the reply takes the way from outside, and is looked at there.
	Admits func(c *v1alpha1.SidestepChannel, from string) bool
}

// Problem is a subscription that cannot be used.
type Problem struct {
	// Channel is "namespace/name"; Subscription the UID.
	Channel, Subscription string
	Err                   error
}

// Key of an object in tables and on the wire: "namespace/name".
func Key(namespace, name string) string { return namespace + "/" + name }

// Known tells whether dispatchers have a place for the channel: its log exists.
func Known(c *v1alpha1.SidestepChannel) bool { return c.Status.Backend != "" }

// Table makes the table of channels, and what of it goes into a roll. What
// cannot be used is left out and reported. The objects are not changed.
func Table(channels []*v1alpha1.SidestepChannel, o Options) (*channel.Table, map[string]rollcall.Entry, []Problem) {
	b := builder{Options: o, byHost: make(map[string]*v1alpha1.SidestepChannel), byKey: make(map[string]*v1alpha1.SidestepChannel)}
	for _, c := range channels {
		if Known(c) {
			b.byHost[sequence.Host(c.Namespace, c.Name, o.ClusterDomain)] = c
			b.byKey[Key(c.Namespace, c.Name)] = c
		}
	}
	t := &channel.Table{Channels: make([]*channel.Channel, 0, len(channels))}
	roll := make(map[string]rollcall.Entry, len(channels))
	for _, c := range channels {
		if !Known(c) {
			continue
		}
		out, entry := b.channel(c)
		t.Channels = append(t.Channels, out)
		roll[Key(c.Namespace, c.Name)] = entry
	}
	return t, roll, b.problems
}

type builder struct {
	Options
	byHost   map[string]*v1alpha1.SidestepChannel
	byKey    map[string]*v1alpha1.SidestepChannel
	problems []Problem
}

func (b *builder) channel(c *v1alpha1.SidestepChannel) (*channel.Channel, rollcall.Entry) {
	host := sequence.Host(c.Namespace, c.Name, b.ClusterDomain)
	out := &channel.Channel{
		Namespace:    c.Namespace,
		Name:         c.Name,
		Hosts:        []string{host},
		URL:          "http://" + host,
		Ordered:      c.Spec.Ordering == v1alpha1.PerKey,
		ShortCircuit: b.shortCircuit(c),
		Draining:     !c.DeletionTimestamp.IsZero(),
		// A group may be made before any table has its subscription.
		Shared: c.Status.EarlyDeletion != v1alpha1.EarlyAllowed,
	}
	if a := c.Status.Address; a != nil && a.URL != nil {
		out.URL = a.URL.String()
	}
	entry := rollcall.Entry{
		UID: string(c.UID), Draining: out.Draining, Shared: out.Shared,
		Subscriptions: make(map[string]int64, len(c.Status.Positions)),
	}
	for i := range c.Status.Positions {
		p := &c.Status.Positions[i]
		if !p.Delivered() {
			continue
		}
		spec := Current(c, p)
		sub, err := b.subscription(c, spec)
		if err != nil {
			b.problems = append(b.problems, Problem{Key(c.Namespace, c.Name), string(spec.UID), err})
			continue
		}
		out.Subscriptions = append(out.Subscriptions, sub)
		entry.Subscriptions[sub.UID] = spec.Generation
	}
	return out, entry
}

// shortCircuit past a channel in whose log a group is kept that nobody delivers
// from would pass that group by.
func (b *builder) shortCircuit(c *v1alpha1.SidestepChannel) channel.ShortCircuit {
	for i := range c.Status.Positions {
		if !c.Status.Positions[i].Delivered() {
			return channel.Never
		}
	}
	switch c.Spec.ShortCircuit {
	case v1alpha1.Colocated:
		return channel.Colocated
	case v1alpha1.Always:
		return channel.Always
	case v1alpha1.Never:
		return channel.Never
	}
	return b.ShortCircuit
}

// Current is what a position's subscription wants now: what spec.subscribers
// says, or the last that was known.
func Current(c *v1alpha1.SidestepChannel, p *v1alpha1.Position) *eventingduckv1.SubscriberSpec {
	for i := range c.Spec.Subscribers {
		if s := &c.Spec.Subscribers[i]; s.UID == p.Subscriber.UID {
			return s
		}
	}
	return &p.Subscriber
}

// CheckSubscriber tells what in a subscriber cannot be used, or nil.
func CheckSubscriber(c *v1alpha1.SidestepChannel, s *eventingduckv1.SubscriberSpec) error {
	b := builder{}
	_, err := b.subscription(c, s)
	return err
}

func (b *builder) subscription(c *v1alpha1.SidestepChannel, s *eventingduckv1.SubscriberSpec) (*channel.Subscription, error) {
	policy, err := policy(s.Delivery)
	if err != nil {
		return nil, fmt.Errorf("delivery.%w", err)
	}
	out := &channel.Subscription{UID: string(s.UID), Namespace: c.Namespace, Policy: policy}
	if out.UID == "" {
		return nil, errors.New("uid: is empty")
	}
	if s.Name != nil {
		out.Name = *s.Name
	}
	from := identity(c, s)
	subscriber, err := b.destination(s.SubscriberURI, s.SubscriberCACerts, s.SubscriberAudience, from)
	if err != nil {
		return nil, fmt.Errorf("subscriberUri: %w", err)
	}
	reply, err := b.destination(s.ReplyURI, s.ReplyCACerts, s.ReplyAudience, from)
	if err != nil {
		return nil, fmt.Errorf("replyUri: %w", err)
	}
	if d := s.Delivery; d != nil && d.DeadLetterSink != nil {
		sink := d.DeadLetterSink
		if out.DeadLetter, err = b.destination(sink.URI, sink.CACerts, sink.Audience, from); err != nil {
			return nil, fmt.Errorf("delivery.deadLetterSink.uri: %w", err)
		}
	}
	switch {
	case subscriber != nil && subscriber.Channel != "":
		// A channel as a subscriber takes the event and never answers with
		// one. It is reached in process, as a reply is.
		out.Reply = subscriber
		return out, nil
	case subscriber != nil:
		out.Subscriber = &subscriber.Target
		out.Subscriber.Reference = b.ByReference != nil && b.ByReference(subscriber.Target.URL)
	case reply == nil:
		return nil, errors.New("want subscriberUri or replyUri")
	}
	out.Reply = reply
	return out, nil
}

// identity is what a subscription calls itself, "namespace/serviceaccount", or ""
// while OIDC is off.
func identity(c *v1alpha1.SidestepChannel, s *eventingduckv1.SubscriberSpec) string {
	if s.Auth == nil || s.Auth.ServiceAccountName == nil || *s.Auth.ServiceAccountName == "" {
		return ""
	}
	return c.Namespace + "/" + *s.Auth.ServiceAccountName
}

// destination is where u leads, nil for nowhere.
func (b *builder) destination(u *apis.URL, caCerts, audience *string, identity string) (*channel.Destination, error) {
	if u.IsEmpty() {
		return nil, nil
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("want an absolute http or https URL, got %q", u.URL().Redacted())
	}
	if c := b.ours(u.URL()); c != nil && (b.Admits == nil || b.Admits(c, identity)) {
		return &channel.Destination{Channel: Key(c.Namespace, c.Name)}, nil
	}
	t := egress.Target{URL: u.String()}
	if caCerts != nil {
		t.CACerts = *caCerts
	}
	if audience != nil && *audience != "" && identity != "" {
		t.Audience, t.Identity = *audience, identity
	}
	return &channel.Destination{Target: t}, nil
}

// ours is the channel that has the address u, or nil.
func (b *builder) ours(u *url.URL) *v1alpha1.SidestepChannel {
	if p := u.Port(); p != "" && p != "80" && p != "443" {
		return nil
	}
	host := u.Hostname()
	if c := b.byHost[host]; c != nil {
		if u.Path == "" || u.Path == "/" {
			return c
		}
		return nil
	}
	if b.Dispatcher == "" || host != b.Dispatcher || len(u.Path) == 0 {
		return nil
	}
	return b.byKey[u.Path[1:]]
}

// policy of a delivery spec.
func policy(d *eventingduckv1.DeliverySpec) (egress.Policy, error) {
	var p egress.Policy
	if d == nil {
		return p, nil
	}
	if d.Retry != nil {
		if *d.Retry < 0 {
			return p, fmt.Errorf("retry: is %d, want 0 or more", *d.Retry)
		}
		p.Retry = int(*d.Retry)
	}
	if d.BackoffPolicy != nil {
		switch *d.BackoffPolicy {
		case eventingduckv1.BackoffPolicyLinear:
			p.Backoff = egress.Linear
		case eventingduckv1.BackoffPolicyExponential:
			p.Backoff = egress.Exponential
		default:
			return p, fmt.Errorf("backoffPolicy: want linear or exponential, got %q", *d.BackoffPolicy)
		}
	}
	if d.Format != nil && *d.Format == eventingduckv1.DeliveryFormatJson {
		p.Format = egress.Structured
	}
	var err error
	read := func(field string, s *string) (out *time.Duration) {
		if s == nil || err != nil {
			return nil
		}
		v, bad := sequence.ParseDuration(*s)
		if bad != nil {
			err = fmt.Errorf("%s: %w", field, bad)
			return nil
		}
		return &v
	}
	if v := read("timeout", d.Timeout); v != nil {
		p.Timeout = *v
	}
	if v := read("backoffDelay", d.BackoffDelay); v != nil {
		p.Delay = *v
	}
	p.RetryAfterMax = read("retryAfterMax", d.RetryAfterMax)
	return p, err
}
