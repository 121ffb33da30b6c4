package v1alpha1

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
)

// The conditions of a SidestepChannel. Ready is the sum of those that follow it;
// what a user can do about each is in its message.
const (
	ConditionReady = apis.ConditionReady
	// ConditionBackendReady: the log exists, and a group for each subscription.
	ConditionBackendReady apis.ConditionType = "BackendReady"
	// ConditionChannelServiceReady: the Service behind the address exists.
	ConditionChannelServiceReady apis.ConditionType = "ChannelServiceReady"
	// ConditionDispatchersReady: every dispatcher takes events for the channel.
	ConditionDispatchersReady apis.ConditionType = "DispatchersReady"
	// ConditionAddressable: status.address is set.
	ConditionAddressable apis.ConditionType = "Addressable"
	// ConditionDeadLetterSinkResolved: spec.delivery.deadLetterSink is a URL
	// by now, or there is none.
	ConditionDeadLetterSinkResolved apis.ConditionType = "DeadLetterSinkResolved"
	// ConditionEventPoliciesReady: every EventPolicy for the channel is.
	ConditionEventPoliciesReady apis.ConditionType = "EventPoliciesReady"

	// ConditionDrained is there while something is being removed, and says
	// how far that is. It is not part of Ready.
	ConditionDrained apis.ConditionType = "Drained"
	// ConditionMoved is there while the log is on its way to another backend, and says
	// what that waits for. It is not part of Ready.
	ConditionMoved apis.ConditionType = "Moved"
	// ConditionConfigured is False while config-sidestep has something in it
	// that cannot be used, a backend that cannot be reached for instance: the last good configuration is in effect. It is not
	// part of Ready.
	ConditionConfigured apis.ConditionType = "Configured"
)

var conditions = apis.NewLivingConditionSet(
	ConditionBackendReady,
	ConditionChannelServiceReady,
	ConditionDispatchersReady,
	ConditionAddressable,
	ConditionDeadLetterSinkResolved,
	ConditionEventPoliciesReady,
)

// GetConditionSet implements duckv1.KRShaped.
func (*SidestepChannel) GetConditionSet() apis.ConditionSet { return conditions }

// GetStatus implements duckv1.KRShaped.
func (c *SidestepChannel) GetStatus() *duckv1.Status { return &c.Status.Status }

// GetGroupVersionKind implements kmeta.OwnerRefable.
func (*SidestepChannel) GetGroupVersionKind() schema.GroupVersionKind {
	return GroupVersion.WithKind(Kind)
}

var _ duckv1.KRShaped = (*SidestepChannel)(nil)

// Conditions to read and to set; those not yet known are Unknown.
func (c *SidestepChannel) Conditions() apis.ConditionManager { return conditions.Manage(c.GetStatus()) }

// MarkEventPoliciesTrue implements auth.EventPolicyStatusMarker.
func (s *SidestepChannelStatus) MarkEventPoliciesTrue() {
	conditions.Manage(&s.Status).MarkTrue(ConditionEventPoliciesReady)
}

// MarkEventPoliciesTrueWithReason implements auth.EventPolicyStatusMarker.
func (s *SidestepChannelStatus) MarkEventPoliciesTrueWithReason(reason, format string, args ...any) {
	conditions.Manage(&s.Status).MarkTrueWithReason(ConditionEventPoliciesReady, reason, format, args...)
}

// MarkEventPoliciesFailed implements auth.EventPolicyStatusMarker.
func (s *SidestepChannelStatus) MarkEventPoliciesFailed(reason, format string, args ...any) {
	conditions.Manage(&s.Status).MarkFalse(ConditionEventPoliciesReady, reason, format, args...)
}

// MarkEventPoliciesUnknown implements auth.EventPolicyStatusMarker.
func (s *SidestepChannelStatus) MarkEventPoliciesUnknown(reason, format string, args ...any) {
	conditions.Manage(&s.Status).MarkUnknown(ConditionEventPoliciesReady, reason, format, args...)
}
