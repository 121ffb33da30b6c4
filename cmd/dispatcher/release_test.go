package main

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// workload is what counts here of a Deployment or a StatefulSet.
type workload struct {
	Kind string
	Spec struct {
		Replicas int
		Template struct {
			Spec struct {
				Containers []struct {
					Name string
					Args []string
				}
			}
		}
	}
}

// release renders the installation, and yields its containers' arguments by their names.
func release(t *testing.T, storeReplicas string) (args map[string][]string, stores int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../hack/release", "registry", "tag")
	cmd.Env = append(os.Environ(), "STORE="+storeReplicas)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &said)
	}
	args = make(map[string][]string)
	for _, doc := range strings.Split(string(out), "\n---\n") {
		var w workload
		if err := yaml.Unmarshal([]byte(doc), &w); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		for _, c := range w.Spec.Template.Spec.Containers {
			args[c.Name] = c.Args
		}
		if w.Kind == "StatefulSet" {
			stores = w.Spec.Replicas
		}
	}
	return args, stores
}

func TestTheReleaseHasAStoreThatStarts(t *testing.T) {
	t.Parallel()
	for replicas, peers := range map[string]int{"1": 0, "3": 3} {
		args, stores := release(t, replicas)
		if want := max(peers, 1); stores != want {
			t.Errorf("STORE=%s: %d stores, want %d", replicas, stores, want)
		}
		for _, user := range []string{"dispatcher", "controller"} {
			if !slices.Contains(args[user], "--store-replicas="+replicas) {
				t.Errorf("STORE=%s: the arguments of the %s are %q", replicas, user, args[user])
			}
		}
		if len(args["store"]) == 0 || args["store"][0] != "store" {
			t.Fatalf("STORE=%s: the arguments of the store are %q", replicas, args["store"])
		}
		var said bytes.Buffer
		c, err := storeConfig(args["store"][1:], &said)
		if err != nil {
			t.Fatalf("STORE=%s: %v %s", replicas, err, &said)
		}
		if len(c.Peers) != peers {
			t.Errorf("STORE=%s: it has the peers %q, want %d", replicas, c.Peers, peers)
		}
	}
}
