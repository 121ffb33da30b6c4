package watch

import (
	"strings"

	"knative.dev/eventing/pkg/apis/feature"

	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
)

// admits tells whether c would let in for certain what a subscription sends that
// calls itself from, "namespace/serviceaccount". Where a policy has to look at
// the sender or at the event, the answer is no: it looks at it at ingress.
func admits(flags feature.Flags, c *v1alpha1.SidestepChannel, from string) bool {
	if !flags.IsOIDCAuthentication() {
		return true
	}
	if from == "" || len(c.Status.Policies) > 0 {
		return false
	}
	switch {
	case flags.IsAuthorizationDefaultModeDenyAll():
		return false
	case flags.IsAuthorizationDefaultModeSameNamespace():
		namespace, _, _ := strings.Cut(from, "/")
		return namespace == c.Namespace
	}
	return true
}
