package e2etest

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// What users may not write is refused, with a message that names the field.
func TestBadObjectsAreRefused(t *testing.T) {
	s := newScene(t)
	channel := func(spec string) string {
		return "apiVersion: messaging.sidestep.dev/v1alpha1\nkind: SidestepChannel\nmetadata: {name: bad}\nspec: " + spec
	}
	for name, c := range map[string]struct{ yaml, want string }{
		"ordering":     {channel("{ordering: Sorted}"), "spec.ordering"},
		"mode":         {channel("{shortCircuit: Sometimes}"), "spec.shortCircuit"},
		"backoff":      {channel("{delivery: {backoffDelay: soon}}"), "spec.delivery.backoffDelay"},
		"retries":      {channel("{delivery: {retry: -1}}"), "spec.delivery.retry"},
		"unknown":      {channel("{orderring: PerKey}"), "orderring"},
		"subscription": {channel("{subscribers: [{uid: u, name: n}]}"), "spec.subscribers"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(s.ctx, "kubectl", "-n", s.ns, "apply", "--validate=strict", "-f", "-")
			cmd.Stdin = strings.NewReader(c.yaml)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.want) {
				t.Errorf("got %v and %q, want an error that names %s", err, out, c.want)
			}
		})
	}
}

// Subscribers are the subscription controller's to write: an edit by a user, who may do
// all else, is refused.
func TestSubscribersAreNotEditedByHand(t *testing.T) {
	f := newFlow(t, "Always", "a")
	out, err := exec.CommandContext(f.ctx, "kubectl", "-n", f.ns, "patch", "sidestepchannel", "flow-kn-sequence-0", "--type=json",
		"-p", `[{"op":"replace","path":"/spec/subscribers/0/subscriberUri","value":"http://elsewhere"}]`).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "spec.subscribers") {
		t.Errorf("got %v and %q, want an error that names spec.subscribers", err, out)
	}
}

func TestKubectlShowsHowAChannelIs(t *testing.T) {
	f := newFlow(t, "Always", "a")
	out, err := exec.CommandContext(f.ctx, "kubectl", "-n", f.ns, "get", "sidestepchannels").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	head, row, _ := strings.Cut(string(out), "\n")
	for _, column := range []string{"NAME", "URL", "READY", "BACKEND", "LAG", "OLDEST"} {
		if !strings.Contains(head, column) {
			t.Errorf("no column %s in %q", column, head)
		}
	}
	for _, value := range []string{"flow-kn-sequence-0", "http://flow-kn-sequence-0-kn-channel." + f.ns + ".svc.", "True", "embedded"} {
		if !strings.Contains(row, value) {
			t.Errorf("no %s in %q", value, row)
		}
	}
}

// A channel that names no kind is one of ours where the namespace says so.
func TestTheDefaultChannelMayBeOurs(t *testing.T) {
	s := newScene(t)
	s.defaultsTo()
	s.part("end", "collect")
	s.part("a", "answer", "--name", "a")
	s.apply(`
apiVersion: messaging.knative.dev/v1
kind: Channel
metadata: {name: plain}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: plain}
spec:
  channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: plain}
  subscriber: {ref: {apiVersion: v1, kind: Service, name: a}}
  reply: {ref: {apiVersion: v1, kind: Service, name: end}}
  delivery: ` + patient + `
`)
	s.ready("messaging.knative.dev/v1", "Channel", "plain")
	s.ready("messaging.knative.dev/v1", "Subscription", "plain")
	s.ready("messaging.sidestep.dev/v1alpha1", "SidestepChannel", "plain")
	s.deliverTo([]string{"http://plain-kn-channel." + s.ns + ".svc.cluster.local"}, 1)
}

// defaultsTo makes ours the default channel of the namespace, while the test runs.
func (s *scene) defaultsTo() {
	s.t.Helper()
	maps := s.kube.CoreV1().ConfigMaps(system)
	m, err := maps.Get(s.ctx, "default-ch-webhook", metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	before := m.Data["default-ch-config"]
	set := func(to string) {
		s.await("the default channel to be set", func() error {
			m, err := maps.Get(s.ctx, "default-ch-webhook", metav1.GetOptions{})
			if err != nil {
				return err
			}
			m.Data["default-ch-config"] = to
			_, err = maps.Update(s.ctx, m, metav1.UpdateOptions{})
			return err
		})
	}
	set(fmt.Sprintf("%s\nnamespaceDefaults:\n  %s: {apiVersion: messaging.sidestep.dev/v1alpha1, kind: SidestepChannel}\n",
		strings.TrimSpace(strings.Split(before, "namespaceDefaults:")[0]), s.ns))
	s.t.Cleanup(func() { set(before) })
	// The webhook has to have seen it: a channel made too early is of another kind.
	s.await("the webhook to know", func() error {
		s.apply("apiVersion: messaging.knative.dev/v1\nkind: Channel\nmetadata: {name: probe}\n")
		defer s.delete("messaging.knative.dev/v1", "Channel", "probe")
		u := object("messaging.knative.dev/v1", "Channel", s.ns, "probe")
		if err := s.api.Get(s.ctx, client.ObjectKeyFromObject(u), u); err != nil {
			return err
		}
		if kind := text(u, "spec", "channelTemplate", "kind"); kind != "SidestepChannel" {
			return fmt.Errorf("its channels are of kind %s", kind)
		}
		return nil
	})
}
