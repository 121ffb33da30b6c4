package sequence

// Deliveries returns the delivery spec that the subscription controller writes
// into the channel's spec.subscribers for a Subscription: its own, or else the
// channel's as a whole; the dead letter sink alone is the channel's whenever
// the Subscription names none. Nil: neither asks for anything.
//
// Knative v0.50.0 leaves the format out of what it copies; here a format that
// is asked for is kept.
func Deliveries(subscription, channel *Delivery) *Delivery {
	switch {
	case channel == nil:
		return subscription
	case subscription == nil:
		return channel
	case subscription.DeadLetterSink != nil || channel.DeadLetterSink == nil:
		return subscription
	}
	d := *subscription
	d.DeadLetterSink = channel.DeadLetterSink
	return &d
}
