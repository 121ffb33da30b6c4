package livetest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sidestep-dev/sidestep/colocate"
	"github.com/sidestep-dev/sidestep/kube/inject"
	"github.com/sidestep-dev/sidestep/kube/pods"
)

// node makes one, in a zone.
func (w *world) node(zone string) string {
	w.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.namespace, Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
	if err := w.client.Create(w.t.Context(), n); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = w.client.Delete(context.Background(), n) })
	return n.Name
}

// ready makes a pod with a sidecar that runs on a node, as far as its status says.
func (w *world) ready(name, node, ip string) *corev1.Pod {
	w.t.Helper()
	p := w.asking(w.namespace)
	p.Name, p.GenerateName, p.Spec.NodeName = name, "", node
	if err := inject.Inject(p, "none"); err != nil {
		w.t.Fatal(err)
	}
	await(w.t, "the namespace to take pods", func() error { return w.client.Create(w.t.Context(), p) })
	p.Status.Phase, p.Status.PodIP, p.Status.PodIPs = corev1.PodRunning, ip, []corev1.PodIP{{IP: ip}}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if err := w.client.Status().Update(w.t.Context(), p); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// service makes a Service of the pods that ready makes.
func (w *world) service(name string, port int32) *corev1.Service {
	w.t.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "pics"},
			Ports:    []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(port)}},
		},
	}
	if err := w.client.Create(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// TestPodsAreFoundByWhatKubernetesMakesOfServices: with the rights of a dispatcher, and
// the EndpointSlices of Kubernetes' own controller.
func TestPodsAreFoundByWhatKubernetesMakesOfServices(t *testing.T) {
	w := begin(t)
	w.roles()
	c, err := cache.New(w.as("sidestep-dispatcher"), cache.Options{Scheme: scheme(t), ByObject: pods.ByObject()})
	if err != nil {
		t.Fatal(err)
	}
	var last atomic.Pointer[pods.Found]
	watcher := &pods.Watcher{Cache: c, Self: w.namespace + "/pics-0", Logger: w.logger, Apply: func(f *pods.Found) error {
		last.Store(f)
		return f.Map.Validate()
	}}
	w.inBackground(c.Start)
	w.inBackground(watcher.Run)
	found := func(want ...string) func() error {
		return func() error {
			var got []string
			for _, p := range mine(last.Load(), w.namespace) {
				for _, name := range []string{"resize:80", "caption:80"} {
					if port := p.Ports[w.namespace+"/"+name]; port != 0 {
						got = append(got, fmt.Sprintf("%s in %s at %s %d", name, p.Zone, p.Sidecar, port))
					}
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				return fmt.Errorf("found %q, want %q", got, want)
			}
			return nil
		}
	}
	resize := w.service("resize", 9101)
	w.service("caption", 9102)
	p := w.ready("pics-0", w.node("west"), "10.9.0.7")
	await(t, "both to be found", found("resize:80 in west at http://10.9.0.7:9300 9101", "caption:80 in west at http://10.9.0.7:9300 9102"))
	if zone := last.Load().Map.Zone; zone != "west" {
		t.Errorf("the process itself is in zone %q, want west", zone)
	}
	resize.Annotations = map[string]string{pods.ColocateAnnotation: "false"}
	if err := w.client.Update(t.Context(), resize); err != nil {
		t.Fatal(err)
	}
	await(t, "one to opt out", found("caption:80 in west at http://10.9.0.7:9300 9102"))
	p.Status.Conditions[0].Status = corev1.ConditionFalse
	if err := w.client.Status().Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	await(t, "a pod that is not ready to be left out", found())
	p.Status.Conditions[0].Status = corev1.ConditionTrue
	if err := w.client.Status().Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	await(t, "it to be back", found("caption:80 in west at http://10.9.0.7:9300 9102"))
	if err := w.client.Delete(t.Context(), p, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	await(t, "a pod that is gone to be left out", found())
	checkKept(t, w, c)
}

// mine are the pods that were found in a namespace.
func mine(f *pods.Found, namespace string) (out []colocate.Pod) {
	if f == nil {
		return nil
	}
	for _, p := range f.Map.Pods {
		if p.Namespace == namespace {
			out = append(out, p)
		}
	}
	return out
}

// checkKept has a look at what is kept in memory of a pod that has no sidecar, and of
// slices that are not Kubernetes' own.
func checkKept(t *testing.T, w *world, c cache.Cache) {
	t.Helper()
	plain := w.asking(w.namespace)
	plain.Name, plain.GenerateName, plain.Labels = "plain", "", nil
	if err := w.client.Create(t.Context(), plain); err != nil {
		t.Fatal(err)
	}
	plain.Status.Phase = corev1.PodRunning
	if err := w.client.Status().Update(t.Context(), plain); err != nil {
		t.Fatal(err)
	}
	byHand := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.namespace, Name: "by-hand", Labels: map[string]string{discoveryv1.LabelServiceName: "resize"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{},
	}
	if err := w.client.Create(t.Context(), byHand); err != nil {
		t.Fatal(err)
	}
	await(t, "the pod to be known", func() error {
		got := new(corev1.Pod)
		if err := c.Get(t.Context(), types.NamespacedName{Namespace: w.namespace, Name: "plain"}, got); err != nil {
			return err
		}
		if got.Size() > 300 {
			t.Errorf("%d bytes are kept of it, of %d: %+v", got.Size(), plain.Size(), got)
		}
		return nil
	})
	var slices discoveryv1.EndpointSliceList
	if err := c.List(t.Context(), &slices, client.InNamespace(w.namespace)); err != nil {
		t.Fatal(err)
	}
	for _, s := range slices.Items {
		if s.Name == "by-hand" {
			t.Error("a slice is kept that somebody made")
		}
	}
}
