package e2etest

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// configure edits config-sidestep until the test ends. A value of nil takes a key away.
func (s *scene) configure(data map[string]any) {
	s.t.Helper()
	maps := s.kube.CoreV1().ConfigMaps(system)
	before, err := maps.Get(s.ctx, "config-sidestep", metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		now, err := maps.Get(s.ctx, "config-sidestep", metav1.GetOptions{})
		if err == nil {
			now.Data = before.Data
			_, err = maps.Update(s.ctx, now, metav1.UpdateOptions{})
		}
		if err != nil {
			s.t.Error("put config-sidestep back:", err)
		}
	})
	s.edit(data)
}

func (s *scene) edit(data map[string]any) {
	s.t.Helper()
	s.await("config-sidestep to be edited", func() error {
		now, err := s.kube.CoreV1().ConfigMaps(system).Get(s.ctx, "config-sidestep", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if now.Data == nil {
			now.Data = map[string]string{}
		}
		for k, v := range data {
			if text, ok := v.(string); ok {
				now.Data[k] = text
			} else {
				delete(now.Data, k)
			}
		}
		_, err = s.kube.CoreV1().ConfigMaps(system).Update(s.ctx, now, metav1.UpdateOptions{})
		return err
	})
}

// broker starts a NATS server with JetStream in the namespace and returns its URL.
func (s *scene) broker() string {
	s.t.Helper()
	s.apply(fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: nats}
spec:
  selector: {matchLabels: {app: nats}}
  template:
    metadata: {labels: {app: nats}}
    spec:
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: nats
        image: %s
        imagePullPolicy: IfNotPresent
        args: [-js, -sd, /data, -p, "4222"]
        ports: [{containerPort: 4222}]
        readinessProbe: {tcpSocket: {port: 4222}, periodSeconds: 1}
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
        volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: nats}
spec:
  selector: {app: nats}
  ports: [{port: 4222}]
`, envOr("NATS_IMAGE", "registry.local/sidestep/nats-server:dev")))
	s.served("nats")
	return fmt.Sprintf("nats://nats.%s.svc:4222", s.ns)
}

// on waits until the flow's first channel is on a backend.
func (f *flow) on(backend string) {
	f.t.Helper()
	f.await("the channel to be on "+backend, func() error {
		u := object("messaging.sidestep.dev/v1alpha1", "SidestepChannel", f.ns, "flow-kn-sequence-0")
		if err := f.api.Get(f.ctx, types.NamespacedName{Namespace: f.ns, Name: u.GetName()}, u); err != nil {
			return err
		}
		if got := text(u, "status", "backend"); got != backend {
			return fmt.Errorf("it is on %q", got)
		}
		return readyError(u)
	})
}

func TestNothingAcceptedIsLostWhenTheBackendChanges(t *testing.T) {
	f := newFlow(t, "Never", "a", "b", "c")
	url := f.broker()
	f.post(rate...)
	f.flowing()
	f.configure(map[string]any{"backend": "nats", "nats": "url: " + url + "\n"})
	f.on("nats")
	f.flowing()
	// In the middle of the way back a dispatcher dies.
	f.edit(map[string]any{"backend": "embedded"})
	if pods := f.pods(system, dispatchers); len(pods) > 0 {
		t.Logf("kill %s", pods[0].Name)
		f.kill(&pods[0])
	}
	f.on("embedded")
	f.flowing()
	for id, a := range f.stop().Came {
		if a.Way != "abc" {
			t.Errorf("event %s went the way %q, want abc", id, a.Way)
		}
	}
}

// A backend that cannot be reached is refused: everything stays where it was, and an
// event says why.
func TestABackendThatDoesNotAnswerChangesNothing(t *testing.T) {
	f := newFlow(t, "Never", "a")
	f.post(rate...)
	f.flowing()
	f.configure(map[string]any{"backend": "nats", "nats": "url: nats://nobody." + f.ns + ".svc:4222\n"})
	f.await("an event that says why", func() error {
		l, err := f.kube.CoreV1().Events(system).List(f.ctx, metav1.ListOptions{FieldSelector: "type=" + corev1.EventTypeWarning + ",involvedObject.name=config-sidestep"})
		if err != nil {
			return err
		}
		for _, e := range l.Items {
			if strings.Contains(e.Message, "nobody."+f.ns) {
				return nil
			}
		}
		return fmt.Errorf("of %d for config-sidestep none names the server", len(l.Items))
	})
	f.on("embedded")
	f.flowing()
	f.stop()
}

// Payloads larger than what a log takes go by a store.
func TestLargePayloadsComeAsTheyWereSent(t *testing.T) {
	f := newFlow(t, "Always", "a", "b")
	f.post("--every", "500ms", "--data", "3000000")
	f.flowing()
	f.stop()
}

// references has a Service ask for payloads by reference.
func (s *scene) references(service string) {
	s.t.Helper()
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata": {"annotations": {"sidestep.dev/payload": "reference"}}}`))
	if err := s.api.Patch(s.ctx, object("v1", "Service", s.ns, service), patch); err != nil {
		s.t.Fatal(err)
	}
}

// A step that asks for references gets a link to what is large, which serves ranges, and
// all else by value.
func TestPayloadsGoByReferenceToWhoAsksForThat(t *testing.T) {
	f := newFlow(t, "Always", "a")
	f.references("a")
	f.post("--every", "500ms", "--data", "3000000")
	f.await("data by link", func() error { return f.came("a" + byLink) })
	f.stop()
	f.delete("apps/v1", "Deployment", "client")
	f.post("--every", "50ms")
	f.flowing()
	c := f.stop()
	for _, id := range f.posted().Accepted {
		if way := c.Came[id].Way; way != "a" {
			t.Errorf("event %s is small, and its way was %s", id, way)
		}
	}
}

// In a pod the reference is a file; what a step answers is an event like any other.
func TestPayloadsGoByReferenceWithinAPod(t *testing.T) {
	s := newScene(t)
	s.part("end", "collect")
	s.together(1)
	s.references("b")
	// On a busy machine a step takes long; what was stored is then called by its address.
	s.configure(map[string]any{"dispatch": "checkpointAfter: 1m\n"})
	f := s.flow("Colocated", "a", "b")
	f.post("--every", "500ms", "--data", "3000000")
	f.await("data by file", func() error { return f.came("ab" + byFile) })
	f.stop()
}
