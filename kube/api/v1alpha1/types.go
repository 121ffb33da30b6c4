package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
)

// SidestepChannel is a channel: a durable log with an address, and the
// subscriptions that its events go to.
//
// +kubebuilder:object:root=true
type SidestepChannel struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SidestepChannelSpec   `json:"spec,omitempty"`
	Status SidestepChannelStatus `json:"status,omitempty"`
}

// SidestepChannelSpec is what is wanted. Subscribers is written by the
// subscription controller alone, the rest by users.
type SidestepChannelSpec struct {
	eventingduckv1.ChannelableSpec `json:",inline"`

	// Ordering is Unordered, the default, or PerKey: the events of one
	// partitionkey are delivered one after the other. Fixed when the channel
	// is made.
	// +optional
	Ordering Ordering `json:"ordering,omitempty"`
	// ShortCircuit says when a step of a Sequence may hand its answer to the
	// next one past the log: Colocated, Always or Never. "" leaves it to
	// config-sidestep.
	// +optional
	ShortCircuit ShortCircuit `json:"shortCircuit,omitempty"`
}

// Ordering of a channel's deliveries.
type Ordering string

// The orderings.
const (
	Unordered Ordering = "Unordered"
	PerKey    Ordering = "PerKey"
)

// ShortCircuit of the hop to a channel's subscription.
type ShortCircuit string

// The values of spec.shortCircuit.
const (
	Colocated ShortCircuit = "Colocated"
	Always    ShortCircuit = "Always"
	Never     ShortCircuit = "Never"
)

// SidestepChannelStatus is what is. The controller alone writes it.
type SidestepChannelStatus struct {
	eventingduckv1.ChannelableStatus `json:",inline"`

	// Backend that keeps the channel's log ("embedded", "nats"); "" until the
	// log exists. Dispatchers know the channel from then on.
	// +optional
	Backend string `json:"backend,omitempty"`
	// Place is where the log is, by the IDs of backends in the ConfigMap
	// sidestep-state. It is written before a log moves on, and all dispatchers go by it.
	// +optional
	Place *Place `json:"place,omitempty"`
	// EarlyDeletion says whether dispatchers may delete a payload as soon as its one
	// subscription has settled it.
	// +optional
	EarlyDeletion EarlyDeletion `json:"earlyDeletion,omitempty"`
	// Lag is how many records the slowest subscription has yet to settle.
	// Looked at about once a minute.
	// +optional
	Lag *int64 `json:"lag,omitempty"`
	// OldestUnsettled is when the oldest of them was stored.
	// +optional
	OldestUnsettled *metav1.Time `json:"oldestUnsettled,omitempty"`
	// Positions are the groups of the log: one for each subscription, and
	// those of subscriptions that have left and may come back. It is written
	// before a group is made and after it is deleted, so that none is
	// forgotten.
	// +optional
	Positions []Position `json:"positions,omitempty"`
}

// Place is where a log is: see swapbackend.Place.
type Place struct {
	// Home takes new records.
	Home string `json:"home"`
	// Next takes them as soon as Home is sealed; "" unless the log is to move.
	// +optional
	Next string `json:"next,omitempty"`
	// Former hold records that have yet to be settled, the oldest first.
	// +optional
	Former []string `json:"former,omitempty"`
}

// EarlyDeletion of payloads. Where a log has one group alone nobody else can need what
// that has settled. Before another group is made every dispatcher must know.
type EarlyDeletion string

// The states of EarlyDeletion; "" is not allowed.
const (
	// EarlyAllowed: there is one group, and none will be made.
	EarlyAllowed EarlyDeletion = "Allowed"
	// EarlyEnding: not any more, and dispatchers have yet to learn of it.
	EarlyEnding EarlyDeletion = "Ending"
)

// Position is a subscription's cursor in the log.
type Position struct {
	// Subscriber is the last that was known of the subscription. While it is
	// in spec.subscribers, that counts.
	Subscriber eventingduckv1.SubscriberSpec `json:"subscriber"`
	State      PositionState                 `json:"state"`
	// Since when the subscription is gone; nil while it is not.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
}

// PositionState is where in its life a Position is.
type PositionState string

// The states of a Position, in their order. A subscription that comes back is
// Active again at once.
const (
	// Pending: the group is being made.
	Pending PositionState = "Pending"
	// Active: the group exists.
	Active PositionState = "Active"
	// Draining: the subscription is gone, and what is stored for it is
	// delivered still.
	Draining PositionState = "Draining"
	// Held: nothing is delivered; the group is kept for the case that the
	// subscription comes back.
	Held PositionState = "Held"
	// Leaving: the group is being deleted.
	Leaving PositionState = "Leaving"
)

// Delivered tells whether dispatchers deliver to the subscription.
func (p *Position) Delivered() bool { return p.State == Active || p.State == Draining }

// SidestepChannelList is a list of SidestepChannels.
//
// +kubebuilder:object:root=true
type SidestepChannelList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []SidestepChannel `json:"items"`
}
