package main

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// TestAPodIsGivenTheTimeThatAProcessTakesToStop: after it Kubernetes kills it, and what
// was in flight runs again elsewhere.
func TestAPodIsGivenTheTimeThatAProcessTakesToStop(t *testing.T) {
	t.Parallel()
	f, err := os.Open(filepath.Join("..", "..", "config", "500-dispatcher.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	type container struct {
		Args []string `yaml:"args"`
	}
	for d := yaml.NewDecoder(f); ; {
		var o struct {
			Kind string `yaml:"kind"`
			Spec struct {
				Template struct {
					Spec struct {
						Grace      int         `yaml:"terminationGracePeriodSeconds"`
						Containers []container `yaml:"containers"`
					} `yaml:"spec"`
				} `yaml:"template"`
			} `yaml:"spec"`
		}
		if err := d.Decode(&o); err != nil {
			t.Fatal("there is no Deployment:", err)
		}
		if o.Kind != "Deployment" {
			continue
		}
		pod := o.Spec.Template.Spec
		args := pod.Containers[0].Args
		if len(args) == 0 || args[0] != "run" {
			t.Fatalf("args are %q", args)
		}
		linger, drain := stopTimes(t, args[1:])
		const rest = 10 * time.Second // to close the backend, and flush what is told
		if grace := time.Duration(pod.Grace) * time.Second; grace < linger+drain+rest {
			t.Errorf("it is given %v, and takes up to %v + %v + %v", grace, linger, drain, rest)
		}
		return
	}
}

// stopTimes are what --linger and --drain are, by args or by default.
func stopTimes(t *testing.T, args []string) (linger, drain time.Duration) {
	t.Helper()
	var help strings.Builder
	if err := runCluster(t.Context(), []string{"--help"}, io.Discard, &help); !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	value := func(name string) time.Duration {
		text := ""
		if m := regexp.MustCompile(`(?s)-` + name + ` .*?\(default ([^)]+)\)`).FindStringSubmatch(help.String()); m != nil {
			text = m[1]
		}
		for _, a := range args {
			if v, ok := strings.CutPrefix(strings.TrimLeft(a, "-"), name+"="); ok {
				text = v
			}
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("--%s: %v in\n%s", name, err, &help)
		}
		return d
	}
	return value("linger"), value("drain")
}
