package sequence

// Expand returns the channels and Subscriptions that Knative's reconciler
// makes for the Sequence, in the order of its steps. Events for the Sequence
// go to the first channel.
func (s *Sequence) Expand() ([]Channel, []Subscription) {
	channels := make([]Channel, len(s.Steps))
	subs := make([]Subscription, len(s.Steps))
	for i := range s.Steps {
		channels[i] = s.Template.channel(s.Namespace, s.ChannelName(i))
	}
	for i := range s.Steps {
		subs[i] = Subscription{
			Namespace:  s.Namespace,
			Name:       s.ChannelName(i),
			Channel:    s.Template.localRef(s.ChannelName(i)),
			Subscriber: &s.Steps[i].Destination,
			Delivery:   s.Steps[i].Delivery,
			Reply:      s.Reply,
		}
		if i+1 < len(s.Steps) {
			subs[i].Reply = channels[i+1].destination()
		}
	}
	return channels, subs
}

// Expand returns the channels and Subscriptions that Knative's reconciler
// makes for the Parallel: the channel in front, then that of each branch; and
// for each branch the Subscription of its filter, then that of its subscriber.
// Events for the Parallel go to the first channel.
func (p *Parallel) Expand() ([]Channel, []Subscription) {
	channels := make([]Channel, 0, len(p.Branches)+1)
	subs := make([]Subscription, 0, 2*len(p.Branches))
	channels = append(channels, p.Template.channel(p.Namespace, p.ChannelName()))
	for i := range p.Branches {
		branch := p.Template.channel(p.Namespace, p.BranchName(i))
		channels = append(channels, branch)
		subs = append(subs, p.filter(i, branch.destination()), p.subscriber(i))
	}
	return channels, subs
}

// filter runs the filter of a branch, if there is one, and hands what it lets
// through to the branch's channel. The branch's delivery spec is not for it.
func (p *Parallel) filter(i int, branch *Destination) Subscription {
	sub := Subscription{
		Namespace:  p.Namespace,
		Name:       p.FilterName(i),
		Channel:    p.Template.localRef(p.ChannelName()),
		Subscriber: branch,
	}
	if f := p.Branches[i].Filter; f != nil {
		sub.Subscriber, sub.Reply = f, branch
	}
	return sub
}

func (p *Parallel) subscriber(i int) Subscription {
	b := &p.Branches[i]
	sub := Subscription{
		Namespace:  p.Namespace,
		Name:       p.BranchName(i),
		Channel:    p.Template.localRef(p.BranchName(i)),
		Subscriber: &b.Subscriber,
		Reply:      b.Reply,
		Delivery:   b.Delivery,
	}
	if sub.Reply == nil {
		sub.Reply = p.Reply
	}
	return sub
}

// Backing returns the spec of the SidestepChannel that Knative's channel
// reconciler makes behind a Channel: a delivery spec in its template replaces
// that of the Channel as a whole.
func Backing(template ChannelSpec, delivery *Delivery) ChannelSpec {
	if template.Delivery == nil {
		template.Delivery = delivery
	}
	return template
}

func (t *Template) channel(namespace, name string) Channel {
	return Channel{
		APIVersion: t.APIVersion,
		Kind:       t.Kind,
		Namespace:  namespace,
		Name:       name,
		Spec:       t.Spec,
	}
}

// localRef is how a Subscription names its channel: without a namespace.
func (t *Template) localRef(name string) Ref {
	return Ref{APIVersion: t.APIVersion, Kind: t.Kind, Name: name}
}

func (c *Channel) destination() *Destination {
	ref := c.Ref()
	return &Destination{Ref: &ref}
}
