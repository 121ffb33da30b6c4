package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The names of the kind.
const (
	Group    = "messaging.sidestep.dev"
	Version  = "v1alpha1"
	Kind     = "SidestepChannel"
	Resource = "sidestepchannels"
)

// RoleLabel is on what Sidestep makes for channels and sidecars, and says what it is.
const RoleLabel = "messaging.sidestep.dev/role"

// GroupVersion of this package.
var GroupVersion = schema.GroupVersion{Group: Group, Version: Version}

// AddToScheme adds the kinds of this package to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &SidestepChannel{}, &SidestepChannelList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
