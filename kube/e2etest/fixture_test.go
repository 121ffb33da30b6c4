package e2etest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// guard is how long a test waits for what must come; a broken cluster is the only
// reason for which it does not.
const guard = 3 * time.Minute

// system is the namespace in which we and Knative Eventing are installed.
const system = "knative-eventing"

// image is that of actor.
var image = envOr("ACTOR_IMAGE", "registry.local/sidestep/actor:dev")

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// scene is a namespace of a test's own.
type scene struct {
	t    *testing.T
	ctx  context.Context //nolint:containedctx // it is the test's, and longer than testing's own: for what is undone
	ns   string
	api  client.Client
	kube kubernetes.Interface
}

// newScene makes a namespace which is deleted with the test. The test is skipped
// without a cluster.
func newScene(t *testing.T) *scene {
	t.Helper()
	if os.Getenv("SIDESTEP_E2E") == "" {
		t.Skip(`needs a cluster with Sidestep installed: run "make e2e", or set SIDESTEP_E2E=1 and KUBECONFIG`)
	}
	conf, err := ctrl.GetConfig()
	if err != nil {
		t.Fatal(err)
	}
	conf.QPS, conf.Burst = 200, 400
	conf.WarningHandler = rest.NoWarnings{}
	api, err := client.New(conf, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kube, err := kubernetes.NewForConfig(conf)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	s := &scene{t: t, ctx: ctx, api: api, kube: kube}
	ns, err := kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "e2e-", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.ns = ns.Name
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), guard)
		defer cancel()
		if t.Failed() {
			s.tell(ctx)
		}
		if err := kube.CoreV1().Namespaces().Delete(ctx, s.ns, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return s
}

// tell logs what a failure may come from.
func (s *scene) tell(ctx context.Context) {
	out, _ := exec.CommandContext(ctx, "kubectl", "-n", s.ns, "get",
		"sidestepchannels,subscriptions,sequences,pods,events", "-o", "wide").CombinedOutput()
	s.t.Logf("%s", out)
}

// text is a string within an object, "" if there is none.
func text(u *unstructured.Unstructured, path ...string) string {
	v, _, _ := unstructured.NestedString(u.Object, path...)
	return v
}

// apply applies YAML in the namespace.
func (s *scene) apply(objects string) {
	s.t.Helper()
	if err := s.tryApply(objects); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) tryApply(objects string) error {
	d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(objects), 1<<16)
	for {
		u := &unstructured.Unstructured{}
		switch err := d.Decode(u); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if len(u.Object) == 0 {
			continue
		}
		u.SetNamespace(s.ns)
		if err := s.api.Apply(s.ctx, client.ApplyConfigurationFromUnstructured(u), client.ForceOwnership, client.FieldOwner("e2etest")); err != nil {
			return fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
		}
	}
}

// delete deletes an object and waits until it is gone.
func (s *scene) delete(apiVersion, kind, name string) {
	s.t.Helper()
	u := object(apiVersion, kind, s.ns, name)
	if err := s.api.Delete(s.ctx, u); client.IgnoreNotFound(err) != nil {
		s.t.Fatal(err)
	}
	s.gone(u)
}

// gone waits until an object is.
func (s *scene) gone(u *unstructured.Unstructured) {
	s.t.Helper()
	s.await(u.GetKind()+" "+u.GetName()+" to be gone", func() error {
		err := s.api.Get(s.ctx, client.ObjectKeyFromObject(u), u)
		if err == nil {
			return errors.New("it is there")
		}
		return client.IgnoreNotFound(err)
	})
}

func object(apiVersion, kind, ns, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	u.SetNamespace(ns)
	u.SetName(name)
	return u
}

// await waits until ok returns nil.
func (s *scene) await(what string, ok func() error) {
	s.t.Helper()
	s.awaitFor(guard, what, ok)
}

// awaitFor is await for what may take longer.
func (s *scene) awaitFor(most time.Duration, what string, ok func() error) {
	s.t.Helper()
	var err error
	for deadline := time.Now().Add(most); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	s.t.Fatalf("waited %v for %s: %v", most, what, err)
}

// ready waits until an object is, as of its present spec.
func (s *scene) ready(apiVersion, kind, name string) {
	s.t.Helper()
	s.await(kind+" "+name+" to be ready", func() error {
		u := object(apiVersion, kind, s.ns, name)
		if err := s.api.Get(s.ctx, client.ObjectKeyFromObject(u), u); err != nil {
			return err
		}
		return readyError(u)
	})
}

func readyError(u *unstructured.Unstructured) error {
	if seen, _, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration"); seen != u.GetGeneration() {
		return fmt.Errorf("generation %d observed, want %d", seen, u.GetGeneration())
	}
	all, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range all {
		if m, ok := c.(map[string]any); ok && m["type"] == "Ready" {
			if m["status"] == "True" {
				return nil
			}
			return fmt.Errorf("%v: %v", m["reason"], m["message"])
		}
	}
	return errors.New("no condition Ready")
}

// part starts an actor with a Service in front of it.
func (s *scene) part(name, part string, args ...string) {
	s.t.Helper()
	quoted, err := json.Marshal(append([]string{part}, args...))
	if err != nil {
		s.t.Fatal(err)
	}
	s.apply(fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, labels: {app: %[1]s}}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: actor
        image: %[2]s
        imagePullPolicy: IfNotPresent
        args: %[3]s
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec:
  selector: {app: %[1]s}
  ports: [{port: 80, targetPort: 8080}]
`, name, image, quoted))
	s.served(name)
}

// served waits until a Service has an endpoint that is ready.
func (s *scene) served(name string) {
	s.t.Helper()
	s.await("a pod of "+name, func() error {
		l, err := s.kube.DiscoveryV1().EndpointSlices(s.ns).List(s.ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + name})
		if err != nil {
			return err
		}
		for _, e := range l.Items {
			for _, p := range e.Endpoints {
				if p.Conditions.Ready != nil && *p.Conditions.Ready {
					return nil
				}
			}
		}
		return errors.New("none is ready")
	})
}

// pods are those of the namespace's, or the system's, with a label.
func (s *scene) pods(ns, label string) []corev1.Pod {
	s.t.Helper()
	l, err := s.kube.CoreV1().Pods(ns).List(s.ctx, metav1.ListOptions{LabelSelector: label})
	if err != nil {
		s.t.Fatal(err)
	}
	return slices.DeleteFunc(l.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil || p.Status.Phase != corev1.PodRunning })
}

// kill ends a pod's processes with SIGKILL. KILL is the program that can do so
// (hack/cluster kill); without it the pod is deleted by force.
func (s *scene) kill(p *corev1.Pod) {
	s.t.Helper()
	if k := os.Getenv("KILL"); k != "" {
		args := append(strings.Fields(k), p.Namespace, p.Name)
		if out, err := exec.CommandContext(s.ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			s.t.Logf("kill %s: %v: %s", p.Name, err, bytes.TrimSpace(out)) // it may have ended by itself
		}
		return
	}
	now := int64(0)
	err := s.kube.CoreV1().Pods(p.Namespace).Delete(s.ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	if client.IgnoreNotFound(err) != nil {
		s.t.Fatal(err)
	}
}

// ask calls a Service of the namespace through the API server.
func (s *scene) ask(verb, service, path string, into any) error {
	r := s.kube.CoreV1().RESTClient().Verb(verb).Namespace(s.ns).Resource("services").Name(service + ":80").SubResource("proxy").Suffix(path)
	b, err := r.DoRaw(s.ctx)
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(b, into)
}
