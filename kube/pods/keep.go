package pods

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
)

// ByObject is how a cache should be set up that a Watcher is given: it asks the API
// server for what may matter, and keeps of that what does. Every dispatcher has all of
// it, and of most pods no more than a name.
func ByObject() map[client.Object]cache.ByObject {
	// Services of channels lead to dispatchers: there is one for each channel,
	// and none of them selects pods.
	ours, err := labels.NewRequirement(v1alpha1.RoleLabel, selection.DoesNotExist, nil)
	if err != nil {
		panic(err) // the label is a constant
	}
	return map[client.Object]cache.ByObject{
		&corev1.Service{}: {
			Label:     labels.NewSelector().Add(*ours),
			Transform: keepService,
		},
		&discoveryv1.EndpointSlice{}: {
			Label:     labels.SelectorFromSet(labels.Set{discoveryv1.LabelManagedBy: sliceController}),
			Transform: keepSlice,
		},
		&corev1.Pod{}: {
			Field:     fields.OneTermEqualSelector("status.phase", string(corev1.PodRunning)),
			Transform: keepPod,
		},
	}
}

// meta is what of an object's metadata is kept. Watches need the version.
func meta(m *metav1.ObjectMeta, annotations, labels []string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion,
		DeletionTimestamp: m.DeletionTimestamp,
		Annotations:       some(m.Annotations, annotations), Labels: some(m.Labels, labels),
	}
}

func some(m map[string]string, keys []string) map[string]string {
	var out map[string]string
	for _, k := range keys {
		if v, ok := m[k]; ok {
			if out == nil {
				out = make(map[string]string, len(keys))
			}
			out[k] = v
		}
	}
	return out
}

// hasSelector stands for a Service's selector: that it has one is all that counts.
var hasSelector = map[string]string{"is": "set"}

// keepService is a cache's transform: what of a Service is looked at.
func keepService(object any) (any, error) {
	s, ok := object.(*corev1.Service)
	if !ok {
		return object, nil // the tombstone of one
	}
	out := &corev1.Service{ObjectMeta: meta(&s.ObjectMeta, []string{ColocateAnnotation, PayloadAnnotation, StepsAnnotation}, []string{routeLabel})}
	out.Spec.Type, out.Spec.ClusterIP = s.Spec.Type, s.Spec.ClusterIP
	if len(s.Spec.Selector) > 0 {
		out.Spec.Selector = hasSelector
	}
	for _, p := range s.Spec.Ports {
		out.Spec.Ports = append(out.Spec.Ports, corev1.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port})
	}
	return out, nil
}

// keepSlice is a cache's transform: what of an EndpointSlice is looked at.
func keepSlice(object any) (any, error) {
	s, ok := object.(*discoveryv1.EndpointSlice)
	if !ok {
		return object, nil
	}
	out := &discoveryv1.EndpointSlice{
		ObjectMeta:  meta(&s.ObjectMeta, nil, []string{discoveryv1.LabelServiceName, discoveryv1.LabelManagedBy}),
		AddressType: s.AddressType,
		Ports:       s.Ports,
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.TargetRef == nil || e.TargetRef.Kind != podKind {
			continue
		}
		t := e.TargetRef
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses:  e.Addresses,
			Conditions: discoveryv1.EndpointConditions{Ready: e.Conditions.Ready, Terminating: e.Conditions.Terminating},
			TargetRef:  &corev1.ObjectReference{Kind: t.Kind, Namespace: t.Namespace, Name: t.Name, UID: t.UID},
			Zone:       e.Zone,
		})
	}
	return out, nil
}

// keepPod is a cache's transform: what of a Pod with a sidecar is looked at, and of
// another one its name alone.
func keepPod(object any) (any, error) {
	p, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	c, native := sidecarOf(p)
	if c == nil {
		return &corev1.Pod{ObjectMeta: meta(&p.ObjectMeta, nil, nil)}, nil
	}
	out := &corev1.Pod{ObjectMeta: meta(&p.ObjectMeta, []string{WeightAnnotation}, []string{revisionLabel})}
	out.Spec.HostNetwork = p.Spec.HostNetwork
	kept := corev1.Container{Name: c.Name, RestartPolicy: c.RestartPolicy, Ports: c.Ports}
	if native {
		out.Spec.InitContainers = []corev1.Container{kept}
	} else {
		out.Spec.Containers = []corev1.Container{kept}
	}
	out.Status = corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			out.Status.Conditions = []corev1.PodCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return out, nil
}
