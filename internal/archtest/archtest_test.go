package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// pkg is what "go list -json" tells of a package.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

type graph map[string]pkg

// load lists our packages and all that they are made of, without their tests.
func load(t *testing.T) graph {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports", module+"/...")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list packages: %v\n%s", err, stderr.String())
	}
	g := graph{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return g
		} else if err != nil {
			t.Fatal(err)
		}
		g[p.ImportPath] = p
	}
}

func TestArchitecture(t *testing.T) {
	t.Parallel()
	g := load(t)
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			about, found := g.violations(r)
			if about == 0 && !r.later {
				t.Errorf("the rule is about no package: %q", r.of)
			}
			for _, v := range found {
				t.Errorf("%s\n\tinstead: %s", v, r.instead)
			}
		})
	}
}

// violations of a rule, each as a chain of imports, and how many packages the
// rule is about.
func (g graph) violations(r rule) (about int, found []string) {
	for path := range g {
		name, ours := local(path)
		if !ours || !anyMatch(r.of, name) || anyMatch(r.except, name) {
			continue
		}
		about++
		found = append(found, g.search(r, path)...)
	}
	slices.Sort(found)
	return about, found
}

// search walks the imports of a package, breadth first: the chain that is
// reported is a shortest one.
func (g graph) search(r rule, from string) (found []string) {
	chains := map[string]string{from: short(from)}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at != from && (!r.deep || g[at].Standard) {
			continue // what the standard library imports is its own affair
		}
		for _, path := range g[at].Imports {
			if _, seen := chains[path]; seen {
				continue
			}
			chains[path] = chains[at] + " imports " + short(path)
			if g.crosses(r, path) {
				found = append(found, chains[path])
				continue
			}
			queue = append(queue, path)
		}
	}
	return found
}

// crosses tells whether the rule forbids to import a package.
func (g graph) crosses(r rule, path string) bool {
	name := short(path)
	if r.only != nil {
		return !(g[path].Standard && slices.Contains(r.only, std)) && !anyMatch(r.only, name)
	}
	return anyMatch(r.never, name)
}

// local is the path of one of our packages within the module.
func local(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

func short(path string) string {
	name, _ := local(path)
	return name
}

func anyMatch(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, name) })
}

func match(pattern, name string) bool {
	if pattern == "..." {
		return true
	}
	if root, all := strings.CutSuffix(pattern, "/..."); all {
		return name == root || strings.HasPrefix(name, root+"/")
	}
	return name == pattern
}

// A rule that never fails proves nothing.
func TestRulesSeeWhatCrossesThem(t *testing.T) {
	t.Parallel()
	tests := []struct {
		rule    string
		imports [][2]string // who imports whom; ours are without the module
		want    string      // "" for none
	}{
		{"the data plane has no Kubernetes in its import graph", [][2]string{{"channel/egress", "example.com/x"}, {"example.com/x", "k8s.io/api"}}, "channel/egress imports example.com/x imports k8s.io/api"},
		{"the data plane has no Kubernetes in its import graph", [][2]string{{"kube/watch", "k8s.io/api"}, {"kube/watch", "channel"}}, ""},
		{"the data plane has no Kubernetes in its import graph", [][2]string{{"channel", "k8s.io.example/api"}}, ""},
		{"only kube and cmd import Kubernetes", [][2]string{{"hack/x", "knative.dev/eventing"}}, "hack/x imports knative.dev/eventing"},
		{"only kube and cmd import Kubernetes", [][2]string{{"cmd/controller", "knative.dev/pkg"}}, ""},
		{"kube and cmd are imported by cmd alone", [][2]string{{"channel", "cmd/x"}}, "channel imports cmd/x"},
		{"kube and cmd are imported by cmd alone", [][2]string{{"cmd/controller", "kube/watch"}}, ""},
		{"one command does not import another", [][2]string{{"cmd/a", "cmd/b"}}, "cmd/a imports cmd/b"},
		{"the seam imports the standard library only", [][2]string{{"channel/backend", "golang.org/x/sync"}}, "channel/backend imports golang.org/x/sync"},
		{"the seam imports the standard library only", [][2]string{{"channel/backend", "context"}, {"channel/backend/natsbackend", "golang.org/x/sync"}}, ""},
		{"a backend knows the seam and nothing else of ours", [][2]string{{"channel/backend/natsbackend", "channel/event"}}, "channel/backend/natsbackend imports channel/event"},
		{"a backend knows the seam and nothing else of ours", [][2]string{{"channel/backend/natsbackend", "channel/backend"}}, ""},
		{"percent-encoding needs nothing of ours", [][2]string{{"channel/backend/percent", "channel/backend"}}, "channel/backend/percent imports channel/backend"},
		{"the engine knows neither a backend nor who calls it", [][2]string{{"channel", "channel/egress"}, {"channel/egress", "channel/backend/membackend"}}, "channel imports channel/egress imports channel/backend/membackend"},
		{"the engine knows neither a backend nor who calls it", [][2]string{{"channel", "channel/backend"}, {"channel/ingress", "channel"}}, ""},
		{"event and egress do not know the engine", [][2]string{{"channel/event", "internal/telemetry"}}, "channel/event imports internal/telemetry"},
		{"sequence is pure", [][2]string{{"sequence", "os"}}, "sequence imports os"},
		{"sequence is pure", [][2]string{{"sequence", "fmt"}, {"fmt", "os"}, {"sequence/manifest", "os"}}, ""},
		{"what controller and dispatchers say to each other is theirs alone", [][2]string{{"internal/rollcall", "k8s.io/api"}}, "internal/rollcall imports k8s.io/api"},
		{"the store knows nothing of channels", [][2]string{{"internal/store", "channel/backend"}}, "internal/store imports channel/backend"},
		{"payload stores do not know where the configuration comes from", [][2]string{{"internal/claims", "sequence/manifest"}}, "internal/claims imports sequence/manifest"},
		{"a replica does not know where its table comes from", [][2]string{{"internal/replica", "sequence"}}, "internal/replica imports sequence"},
		{"the controller and the dispatcher share objects and their translation, and no more", [][2]string{{"kube/reconcile", "kube/serve"}}, "kube/reconcile imports kube/serve"},
		{"the protocol between dispatcher and sidecar needs neither", [][2]string{{"colocate/wire", "channel/egress"}, {"channel/egress", "channel"}}, "colocate/wire imports channel/egress imports channel"},
		{"the protocol between dispatcher and sidecar needs neither", [][2]string{{"colocate/wire", "channel/egress"}, {"colocate/sidecar", "internal/budget"}}, ""},
		{"the sidecar is small", [][2]string{{"cmd/sidecar", "colocate/sidecar"}, {"colocate/sidecar", "github.com/nats-io/nats.go"}}, "cmd/sidecar imports colocate/sidecar imports github.com/nats-io/nats.go; colocate/sidecar imports github.com/nats-io/nats.go"},
		{"the sidecar is small", [][2]string{{"colocate/sidecar", "channel/egress"}, {"channel", "github.com/prometheus/client_golang"}}, ""},
		{"budget needs nothing of ours", [][2]string{{"internal/budget", "channel"}}, "internal/budget imports channel"},
		{"only commands run a standalone process", [][2]string{{"kube/watch", "internal/standalone"}}, "kube/watch imports internal/standalone"},
		{"what only tests need stays in tests", [][2]string{{"channel", "testing"}}, "channel imports testing"},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(rules, func(r rule) bool { return r.name == tt.rule })
			if i < 0 {
				t.Fatal("there is no such rule")
			}
			about, found := graphOf(tt.imports).violations(rules[i])
			if got := strings.Join(found, "; "); got != tt.want {
				t.Errorf("found %q among %d packages, want %q", got, about, tt.want)
			}
		})
	}
}

// graphOf makes a graph of pairs. Paths without a dot that have no folder of
// ours at their beginning are of the standard library.
func graphOf(imports [][2]string) graph {
	ours := []string{"channel/...", "sequence/...", "colocate/...", "internal/...", "kube/...", "cmd/...", "hack/..."}
	full := func(name string) (string, bool) {
		if anyMatch(ours, name) {
			return module + "/" + name, false
		}
		return name, !strings.Contains(name, ".")
	}
	g := graph{}
	for _, pair := range imports {
		from, fromStd := full(pair[0])
		to, toStd := full(pair[1])
		p := g[from]
		g[from] = pkg{from, fromStd, append(p.Imports, to)}
		if _, known := g[to]; !known {
			g[to] = pkg{ImportPath: to, Standard: toStd}
		}
	}
	return g
}
