package livetest

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// configured is the object of T's kind in a file of config/.
func configured[T client.Object](t *testing.T, file string) (found T) {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "config", file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found = reflect.New(reflect.TypeFor[T]().Elem()).Interface().(T)
	gvks, _, err := scheme(t).ObjectKinds(found)
	if err != nil {
		t.Fatal(err)
	}
	for d := yaml.NewYAMLOrJSONDecoder(f, 1<<20); ; {
		var u map[string]any
		if err := d.Decode(&u); err == io.EOF { //nolint:errorlint // the decoder returns it as it is
			t.Fatalf("there is no %s in %s", gvks[0].Kind, file)
		} else if err != nil {
			t.Fatal(file, err)
		}
		if u["kind"] != gvks[0].Kind || u["apiVersion"] != gvks[0].GroupVersion().String() {
			continue
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u, found, true); err != nil {
			t.Fatal(file, err)
		}
		return found
	}
}

// TestADrainTakesDispatchersOneAtATime: what is in config/ lets a node be emptied, and
// never takes two dispatchers at once. A restricted namespace takes their pods.
func TestADrainTakesDispatchersOneAtATime(t *testing.T) {
	w := begin(t)
	if err := w.client.Patch(t.Context(), namespaceOf(w.namespace), client.RawPatch(types.MergePatchType,
		[]byte(`{"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}`))); err != nil {
		t.Fatal(err)
	}
	d := configured[*appsv1.Deployment](t, "500-dispatcher.yaml")
	b := configured[*policyv1.PodDisruptionBudget](t, "500-dispatcher.yaml")
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: d.Spec.Template.Spec.ServiceAccountName}}
	d.Spec.Template.Spec.SchedulerName = "nobody"
	h := configured[*autoscalingv2.HorizontalPodAutoscaler](t, "500-dispatcher-hpa.yaml")
	if r := h.Spec.ScaleTargetRef; r.Kind != "Deployment" || r.Name != d.Name || r.APIVersion != "apps/v1" || d.Spec.Replicas != nil {
		t.Errorf("%+v is scaled, the Deployment is %s and has %v replicas of its own", r, d.Name, d.Spec.Replicas)
	}
	replicas := *h.Spec.MinReplicas
	d.Spec.Replicas = &replicas
	for _, o := range []client.Object{account, b, d, h} {
		o.SetNamespace(w.namespace)
		if err := w.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	run := func(n int) (names []string) {
		t.Helper()
		await(t, "pods to be made", func() error {
			var all corev1.PodList
			if err := w.client.List(t.Context(), &all, client.InNamespace(w.namespace)); err != nil {
				return err
			}
			names = nil
			for i := range all.Items {
				p := &all.Items[i]
				names = append(names, p.Name)
				p.Status.Phase, p.Status.PodIP = corev1.PodRunning, fmt.Sprint("10.9.1.", i+1)
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
				if err := w.client.Status().Update(t.Context(), p); err != nil {
					return err
				}
			}
			if len(names) != n {
				return fmt.Errorf("%d pods, want %d", len(names), n)
			}
			return nil
		})
		return names
	}
	evict := func(name string) error {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}
		none := int64(0)
		return w.client.SubResource("eviction").Create(t.Context(), p, &policyv1.Eviction{
			ObjectMeta: p.ObjectMeta, DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: &none},
		})
	}
	names := run(int(replicas))
	await(t, "the first to be evicted", func() error { return evict(names[0]) })
	if err := evict(names[1]); !apierrors.IsTooManyRequests(err) {
		t.Errorf("the second one, while the first has no successor: error %v", err)
	}
	run(int(replicas)) // its successor runs
	await(t, "the second to be evicted", func() error { return evict(names[1]) })
}
