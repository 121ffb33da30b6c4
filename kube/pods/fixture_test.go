package pods

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func ptr[T any](v T) *T { return &v }

// town is two Services that select the same pod, with two ports and a sidecar: all
// of it as an API server has it.
type town struct {
	resize, caption           *corev1.Service
	resizeSlice, captionSlice *discoveryv1.EndpointSlice
	more                      []*discoveryv1.EndpointSlice
	pod                       *corev1.Pod
}

func newTown() *town {
	t := &town{pod: sidecarPod("pics-0", "uid-0", "10.0.0.7")}
	t.resize, t.resizeSlice = selects("resize", 9101, t.pod)
	t.caption, t.captionSlice = selects("caption", 9102, t.pod)
	return t
}

func (t *town) objects() Objects {
	return Objects{
		Services: []*corev1.Service{t.resize, t.caption},
		Slices:   append([]*discoveryv1.EndpointSlice{t.resizeSlice, t.captionSlice}, t.more...),
		Pods:     []*corev1.Pod{t.pod},
	}
}

// sidecarPod is one that is ready.
func sidecarPod(name, uid, ip string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "n", Name: name, UID: types.UID(uid), ResourceVersion: "7",
			Labels:        map[string]string{"app": "pics"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet"}},
		},
		Spec: corev1.PodSpec{
			NodeName: "node-1",
			InitContainers: []corev1.Container{
				{Name: "fetch", Image: "fetch"},
				{
					Name: Container, Image: "sidecar", RestartPolicy: ptr(corev1.ContainerRestartPolicyAlways),
					Ports: []corev1.ContainerPort{{Name: PortName, ContainerPort: 9300, Protocol: corev1.ProtocolTCP}},
				},
			},
			Containers: []corev1.Container{{Name: "resize", Image: "r"}, {Name: "caption", Image: "c"}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, HostIP: "192.168.0.1",
			Conditions: []corev1.PodCondition{
				{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
				{Type: corev1.PodReady, Status: corev1.ConditionTrue},
			},
		},
	}
}

// selects is a Service that selects a pod, and the slice that Kubernetes makes for it.
func selects(name string, port int32, p *corev1.Pod) (*corev1.Service, *discoveryv1.EndpointSlice) {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name, ResourceVersion: "1"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.9", Selector: map[string]string{"app": "pics", "tier": "x"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(port)}},
		},
	}
	return s, &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "n", Name: name + "-x7", ResourceVersion: "2",
			Labels: map[string]string{discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: sliceController},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(port), Protocol: ptr(corev1.ProtocolTCP)}},
		Endpoints:   []discoveryv1.Endpoint{endpointOf(p)},
	}
}

func endpointOf(p *corev1.Pod) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses:  []string{p.Status.PodIP},
		Conditions: discoveryv1.EndpointConditions{Ready: ptr(true), Serving: ptr(true), Terminating: ptr(false)},
		TargetRef:  &corev1.ObjectReference{Kind: podKind, Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		NodeName:   ptr("node-1"),
		Zone:       ptr("west"),
	}
}

// kept is what of objects a cache keeps that is set up by ByObject. The objects
// are not changed.
func kept(t testing.TB, o Objects) (out Objects) {
	t.Helper()
	through := func(transform func(any) (any, error), object any) any {
		once, err := transform(object)
		if err != nil {
			t.Fatal(err)
		}
		return once
	}
	for _, s := range o.Services {
		out.Services = append(out.Services, through(keepService, s.DeepCopy()).(*corev1.Service))
	}
	for _, s := range o.Slices {
		out.Slices = append(out.Slices, through(keepSlice, s.DeepCopy()).(*discoveryv1.EndpointSlice))
	}
	for _, p := range o.Pods {
		out.Pods = append(out.Pods, through(keepPod, p.DeepCopy()).(*corev1.Pod))
	}
	return out
}
