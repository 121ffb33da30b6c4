package sequence

import "time"

// The kinds that this package writes into references and channels.
const (
	// SidestepVersion and SidestepKind are those of our own channel.
	SidestepVersion = "messaging.sidestep.dev/v1alpha1"
	SidestepKind    = "SidestepChannel"
	// MessagingVersion is that of Channel (the facade) and Subscription.
	MessagingVersion = "messaging.knative.dev/v1"
	ChannelKind      = "Channel"
	SubscriptionKind = "Subscription"
	// FlowsVersion is that of Sequence and Parallel.
	FlowsVersion = "flows.knative.dev/v1"
	SequenceKind = "Sequence"
	ParallelKind = "Parallel"
)

// Ref names an object (Knative's KReference).
type Ref struct {
	APIVersion, Kind string
	// Namespace is "" for the namespace of the object that holds the Ref.
	Namespace, Name string
}

// Destination is a target of events (Knative's duck/v1 Destination): what Ref
// resolves to, or URI, or URI resolved against what Ref resolves to.
type Destination struct {
	Ref *Ref
	// URI is absolute without a Ref and relative with one; "" for none.
	URI string
	// CACerts are PEM certificates, "" for none.
	CACerts string
	// Audience is the OIDC audience, "" for none.
	Audience string
}

// The values of Delivery.BackoffPolicy and Delivery.Format.
const (
	BackoffLinear      = "linear"
	BackoffExponential = "exponential"
	FormatJSON         = "json"
	FormatBinary       = "binary"
)

// Delivery is Knative's DeliverySpec with its durations decoded. Nil pointers
// and empty strings are fields that were not given, which is what decides
// whether a channel's default applies.
type Delivery struct {
	DeadLetterSink *Destination
	// Retry is how many attempts may follow the first.
	Retry *int32
	// Timeout limits one attempt.
	Timeout *time.Duration
	// BackoffPolicy is BackoffLinear, BackoffExponential or "".
	BackoffPolicy string
	BackoffDelay  *time.Duration
	RetryAfterMax *time.Duration
	// Format is FormatJSON, FormatBinary or "".
	Format string
}

// The values of ChannelSpec.Ordering and ChannelSpec.ShortCircuit.
const (
	Unordered             = "Unordered"
	PerKey                = "PerKey"
	ShortCircuitColocated = "Colocated"
	ShortCircuitAlways    = "Always"
	ShortCircuitNever     = "Never"
)

// ChannelSpec is the spec of a SidestepChannel, without the subscribers that
// the subscription controller writes into it.
type ChannelSpec struct {
	// Ordering is Unordered, PerKey or "" for the default.
	Ordering string
	// ShortCircuit is one of the ShortCircuit constants or "" for the default.
	ShortCircuit string
	// Delivery applies to Subscriptions that have none of their own.
	Delivery *Delivery
}

// Template is a channelTemplate: the channels to make.
type Template struct {
	APIVersion, Kind string
	// Spec is that of the SidestepChannel behind each channel made.
	Spec ChannelSpec
}

// Channel is a channel to be: a SidestepChannel, or a Channel whose backing
// SidestepChannel has the same name.
type Channel struct {
	APIVersion, Kind string
	Namespace, Name  string
	Spec             ChannelSpec
}

// Ref refers to the channel from any namespace.
func (c *Channel) Ref() Ref {
	return Ref{APIVersion: c.APIVersion, Kind: c.Kind, Namespace: c.Namespace, Name: c.Name}
}

// Subscription is a messaging.knative.dev/v1 Subscription.
type Subscription struct {
	Namespace, Name string
	// Channel is in the Subscription's own namespace.
	Channel Ref
	// Subscriber is the step; Reply is where its answers go, nil: nowhere.
	Subscriber, Reply *Destination
	Delivery          *Delivery
}

// Sequence is a flows.knative.dev/v1 Sequence.
type Sequence struct {
	Namespace, Name string
	Steps           []Step
	Template        Template
	// Reply is where the last step's answers go, nil: nowhere.
	Reply *Destination
}

// Step is one step of a Sequence.
type Step struct {
	Destination
	Delivery *Delivery
}

// Parallel is a flows.knative.dev/v1 Parallel.
type Parallel struct {
	Namespace, Name string
	Branches        []Branch
	Template        Template
	// Reply is where the answers of branches without a Reply go.
	Reply *Destination
}

// Branch is one branch of a Parallel.
type Branch struct {
	// Filter decides, by answering with an event or not, whether the branch
	// runs; nil: it always does.
	Filter     *Destination
	Subscriber Destination
	Reply      *Destination
	Delivery   *Delivery
}
