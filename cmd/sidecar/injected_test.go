package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestWhatIsInjectedIsUnderstood: the controller writes flags of this command into pods,
// and cannot import it.
func TestWhatIsInjectedIsUnderstood(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("..", "..", "kube", "inject", "testdata", "injected.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var pod struct {
		Spec struct {
			InitContainers []struct {
				Name string   `yaml:"name"`
				Args []string `yaml:"args"`
			} `yaml:"initContainers"`
		} `yaml:"spec"`
	}
	if err := yaml.Unmarshal(b, &pod); err != nil {
		t.Fatal(err)
	}
	cs := pod.Spec.InitContainers
	if len(cs) == 0 || cs[len(cs)-1].Name != "sidestep" {
		t.Fatalf("there is no sidecar: %+v", cs)
	}
	args := cs[len(cs)-1].Args
	for i := range args {
		args[i] = strings.NewReplacer("$(POD_UID)", "6b0d", "$(POD_NAMESPACE)", "n").Replace(args[i])
	}
	o, err := parse(args, io.Discard)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	if len(o.Allow) != 2 || o.Pod != "6b0d" || o.Namespace != "n" || !o.await || o.listen != ":9300" || o.ClaimBytes != 256<<20 {
		t.Errorf("got %+v", o)
	}
	// Beside the files that steps write, all must fit into the limit of 160 MiB.
	if most := heapSpare + 2*o.Memory; most > 120<<20 {
		t.Errorf("the heap may have %d MiB", most>>20)
	}
}
