package reconcile

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/eventing/pkg/apis/feature"
	"knative.dev/eventing/pkg/auth"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/kmeta"

	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
	"github.com/sidestep-dev/sidestep/sequence"
)

// The names of what channels are given.
const (
	serviceSuffix = "-kn-channel"
	// Finalizer is ours on a channel: its log has to be removed first.
	Finalizer = "messaging.sidestep.dev/log"
	// subscribable tells Knative which version of the contract a channel
	// keeps.
	subscribable = "messaging.knative.dev/subscribable"
)

// ServiceLabels are on each channel's Service.
func ServiceLabels() map[string]string { return map[string]string{v1alpha1.RoleLabel: "channel"} }

// service is the Service that a channel's host name is of: an alias of the
// dispatchers'.
func service(c *v1alpha1.SidestepChannel, dispatcher string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name:            kmeta.ChildName(c.Name, serviceSuffix),
			Namespace:       c.Namespace,
			Labels:          ServiceLabels(),
			OwnerReferences: []metav1.OwnerReference{*kmeta.NewControllerRef(c)},
		},
		Spec: corev1.ServiceSpec{
			Type:         corev1.ServiceTypeExternalName,
			ExternalName: dispatcher,
			Ports:        []corev1.ServicePort{{Name: "http", Port: 80}},
		},
	}
}

// addresses of a channel under the features that are on (CONTRACT 5). caCerts is
// nil where there is no CA of its own to trust.
func addresses(
	c *v1alpha1.SidestepChannel, flags feature.Flags, dispatcher, domain string, caCerts *string,
) (address duckv1.Addressable, all []duckv1.Addressable) {
	name := func(s string) *string { return &s }
	plain := duckv1.Addressable{
		Name: name("http"),
		URL:  apis.HTTP(sequence.Host(c.Namespace, c.Name, domain)),
	}
	secure := duckv1.Addressable{Name: name("https"), URL: apis.HTTPS(dispatcher), CACerts: caCerts}
	secure.URL.Path = fmt.Sprintf("/%s/%s", c.Namespace, c.Name)
	if flags.IsOIDCAuthentication() {
		audience := auth.GetAudience(c.GetGroupVersionKind(), c.ObjectMeta)
		plain.Audience, secure.Audience = &audience, &audience
	}
	switch {
	case flags.IsPermissiveTransportEncryption():
		return plain, []duckv1.Addressable{secure, plain}
	case flags.IsStrictTransportEncryption():
		return secure, []duckv1.Addressable{secure}
	}
	return plain, nil
}
