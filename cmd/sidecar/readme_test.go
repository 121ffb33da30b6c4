package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The Knative Service that the README shows starts a sidecar, for the steps that its
// annotation names, and says of itself what dispatchers expect.
func TestReadmeKnativeServiceHasASidecar(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "**Knative Services.**")
	_, rest, _ = strings.Cut(rest, "```yaml\n")
	text, _, _ := strings.Cut(rest, "```")
	var s struct {
		Metadata struct {
			Name        string
			Annotations map[string]string
		}
		Spec struct {
			Template struct {
				Spec struct{ Containers []struct{ Args []string } }
			}
		}
	}
	if err := yaml.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Spec.Template.Spec.Containers) != 3 {
		t.Fatalf("got %+v", s)
	}
	o, err := parse(s.Spec.Template.Spec.Containers[0].Args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if want := "default/" + s.Metadata.Name; o.Pod != want || o.Namespace != "default" {
		t.Errorf("it is %s in %s, want %s in default", o.Pod, o.Namespace, want)
	}
	steps := strings.Split(s.Metadata.Annotations["sidestep.dev/steps"], ",")
	if len(steps) != len(o.Names) || len(steps) != len(o.Allow) {
		t.Errorf("the annotation has %q, the sidecar %v and %v", steps, o.Names, o.Allow)
	}
	for _, step := range steps {
		if err := (&options{}).step(step); err != nil {
			t.Error(err)
		}
		if name, _, _ := strings.Cut(step, "="); o.Names[name] == 0 {
			t.Errorf("the sidecar has no step %s", name)
		}
	}
}
