package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/sequence"
)

// TableOptions say where the channels of a Table are reached, and under which
// UIDs its Subscriptions are known.
type TableOptions struct {
	// BaseURL is that of ingress, without a path; channels are beneath it
	// as /NAMESPACE/NAME. "" means http://127.0.0.1:8080.
	BaseURL string
	// ClusterDomain ends the host names of channels; "" means cluster.local.
	ClusterDomain string
	// UID is the UID of an object, the same at each call. The caller makes
	// and keeps them: a Subscription's UID is its position in the log.
	// Required; it is asked for kind "Subscription" only.
	UID func(kind, namespace, name string) string
}

const defaultBaseHost = "127.0.0.1:8080"

// base is the base URL, or the default if it is not valid.
func (o TableOptions) base() *url.URL {
	if u, why := parseURL(o.BaseURL); why == "" {
		return u
	}
	return &url.URL{Scheme: "http", Host: defaultBaseHost}
}

func (o TableOptions) validate() error {
	if o.UID == nil {
		return errors.New("no UID function")
	}
	if o.BaseURL == "" {
		return nil
	}
	u, why := parseURL(o.BaseURL)
	if why == "" && u.Path != "" && u.Path != "/" {
		why = "has a path"
	}
	if why != "" {
		return fmt.Errorf("base URL %q: %s", o.BaseURL, why)
	}
	return nil
}

// Address is where events for an object are posted.
type Address struct {
	Kind, Namespace, Name string
	URL                   string
}

// Table makes the table of all channels and their Subscriptions, in the order
// of their names, and the addresses of what the files declare: Sequences,
// Parallels, Channels and SidestepChannels, in this order and that of their
// namespaces and names. Each call makes a table of its own, which the caller
// owns.
func (s *Set) Table(o TableOptions) (*channel.Table, []Address, error) {
	if err := o.validate(); err != nil {
		return nil, nil, fmt.Errorf("make table: %w", err)
	}
	b := tableBuilder{set: s, options: o, index: s.index(o)}
	channels, subs := s.expand()
	slices.SortFunc(channels, func(x, y sequence.Channel) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	slices.SortFunc(subs, func(x, y sequence.Subscription) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	t := &channel.Table{}
	byLog := make(map[string]*channel.Channel, len(channels))
	for i := range channels {
		c := b.channel(&channels[i])
		byLog[c.Namespace+"/"+c.Name] = c
		t.Channels = append(t.Channels, c)
	}
	for i := range subs {
		sub := &subs[i]
		log := b.index.find(sub.Channel, sub.Namespace).channel
		out, err := b.subscription(sub, log)
		if err != nil {
			return nil, nil, fmt.Errorf("make table: subscription %s/%s: %w", sub.Namespace, sub.Name, err)
		}
		byLog[log].Subscriptions = append(byLog[log].Subscriptions, out)
	}
	return t, b.addresses(), nil
}

type tableBuilder struct {
	set     *Set
	options TableOptions
	index   *index
}

// url is the address of a channel.
func (b *tableBuilder) url(namespace, name string) string {
	u := b.index.base
	return u.Scheme + "://" + u.Host + "/" + namespace + "/" + name
}

func (b *tableBuilder) channel(c *sequence.Channel) *channel.Channel {
	short, said := shortCircuits()[c.Spec.ShortCircuit]
	if !said {
		short = b.set.Config.Dispatch.ShortCircuit
	}
	return &channel.Channel{
		Namespace:    c.Namespace,
		Name:         c.Name,
		Hosts:        []string{sequence.Host(c.Namespace, c.Name, b.options.ClusterDomain)},
		URL:          b.url(c.Namespace, c.Name),
		Ordered:      c.Spec.Ordering == sequence.PerKey,
		ShortCircuit: short,
	}
}

func (b *tableBuilder) subscription(s *sequence.Subscription, log string) (*channel.Subscription, error) {
	c := b.index.channels[log]
	if c == nil {
		return nil, fmt.Errorf("no channel %q", s.Channel.Name)
	}
	delivery := sequence.Deliveries(s.Delivery, c.Spec.Delivery)
	out := &channel.Subscription{
		UID:       b.options.UID(sequence.SubscriptionKind, s.Namespace, s.Name),
		Namespace: s.Namespace,
		Name:      s.Name,
		Policy:    policy(delivery),
	}
	if out.UID == "" {
		return nil, errors.New("has no UID")
	}
	var err error
	if delivery != nil {
		if out.DeadLetter, err = b.destination(delivery.DeadLetterSink, s.Namespace); err != nil {
			return nil, fmt.Errorf("dead letter sink: %w", err)
		}
	}
	subscriber, err := b.destination(s.Subscriber, s.Namespace)
	if err != nil {
		return nil, fmt.Errorf("subscriber: %w", err)
	}
	if subscriber != nil && subscriber.Channel != "" {
		// A channel as a subscriber takes the event and never answers with
		// one. It is reached in process, as a reply is.
		out.Reply = subscriber
		return out, nil
	}
	if subscriber != nil {
		out.Subscriber = &subscriber.Target
	}
	if out.Reply, err = b.destination(s.Reply, s.Namespace); err != nil {
		return nil, fmt.Errorf("reply: %w", err)
	}
	return out, nil
}

func (b *tableBuilder) destination(d *sequence.Destination, namespace string) (*channel.Destination, error) {
	if d == nil {
		return nil, nil
	}
	out, why := b.index.resolve(d, namespace)
	if why != nil {
		return nil, why
	}
	return &out, nil
}

func policy(d *sequence.Delivery) egress.Policy {
	var p egress.Policy
	if d == nil {
		return p
	}
	if d.Retry != nil {
		p.Retry = int(*d.Retry)
	}
	if d.Timeout != nil {
		p.Timeout = *d.Timeout
	}
	if d.BackoffPolicy == sequence.BackoffLinear {
		p.Backoff = egress.Linear
	}
	if d.BackoffDelay != nil {
		p.Delay = *d.BackoffDelay
	}
	if d.RetryAfterMax != nil {
		most := *d.RetryAfterMax
		p.RetryAfterMax = &most
	}
	if d.Format == sequence.FormatJSON {
		p.Format = egress.Structured
	}
	return p
}

func (b *tableBuilder) addresses() []Address {
	var as []Address
	sortFrom := func(from int) {
		slices.SortFunc(as[from:], func(x, y Address) int {
			return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
		})
	}
	for _, q := range b.set.sequences {
		as = append(as, Address{sequence.SequenceKind, q.Namespace, q.Name, b.url(q.Namespace, q.ChannelName(0))})
	}
	sortFrom(0)
	from := len(as)
	for _, p := range b.set.parallels {
		as = append(as, Address{sequence.ParallelKind, p.Namespace, p.Name, b.url(p.Namespace, p.ChannelName())})
	}
	sortFrom(from)
	for _, kind := range []string{sequence.ChannelKind, sequence.SidestepKind} {
		from = len(as)
		for _, c := range b.set.channels {
			if c.Kind == kind {
				as = append(as, Address{kind, c.Namespace, c.Name, b.url(c.Namespace, c.Name)})
			}
		}
		sortFrom(from)
	}
	return as
}
