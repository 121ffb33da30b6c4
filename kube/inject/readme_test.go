package inject

import (
	"os"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// What the README shows gets a sidecar that may call what its Services name.
func TestReadmeDeploymentGetsASidecar(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "**Sidecars.**")
	_, rest, _ = strings.Cut(rest, "```yaml\n")
	text, _, found := strings.Cut(rest, "```")
	docs := strings.Split(text, "\n---\n")
	if !found || len(docs) != 3 {
		t.Fatalf("got %d documents, want a Deployment and two Services, below the word Sidecars", len(docs))
	}
	var d appsv1.Deployment
	if err := yaml.UnmarshalStrict([]byte(docs[0]), &d); err != nil {
		t.Fatal(err)
	}
	p := inject(t, &corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta, Spec: d.Spec.Template.Spec})
	allowed := "," + arg(t, sidecarOf(t, p), "--allow") + ","
	for _, doc := range docs[1:] {
		var s corev1.Service
		if err := yaml.UnmarshalStrict([]byte(doc), &s); err != nil {
			t.Fatal(err)
		}
		for k, v := range s.Spec.Selector {
			if p.Labels[k] != v {
				t.Errorf("Service %s selects %s=%s, which the pods do not have", s.Name, k, v)
			}
		}
		if port := s.Spec.Ports[0].TargetPort.String(); !strings.Contains(allowed, ","+port+",") {
			t.Errorf("the sidecar may call %s, and not port %s of Service %s", allowed, port, s.Name)
		}
	}
}
