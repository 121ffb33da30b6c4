package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sidestep-dev/sidestep/internal/standalone"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// blocks are the README's fenced blocks of a language.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
		found = append(found, m[1])
	}
	return found
}

// readmeFiles writes the YAML of the README as a newcomer would.
func readmeFiles(t *testing.T) string {
	t.Helper()
	yaml := blocks(t, "yaml")
	if len(yaml) != 5 { // kube/inject tests the Deployment, cmd/sidecar the Knative Service
		t.Fatalf("the README has %d blocks of YAML, want the flow, the configuration, a pod, a Deployment, and a Knative Service", len(yaml))
	}
	dir := t.TempDir()
	// The second one speaks of a backend that need not be there.
	for name, text := range map[string]string{"greet.yaml": yaml[0], "config.yaml": yaml[1]} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestReadmeFilesCanBeUsed(t *testing.T) {
	t.Parallel()
	set, err := manifest.Load([]string{readmeFiles(t)})
	if err != nil {
		t.Fatal(err)
	}
	if set.Config.Backend != manifest.BackendEmbedded || set.Config.Dispatch.MaxInFlight != 256 {
		t.Errorf("configuration %+v is not what the README says", set.Config)
	}
}

// The pod is of steps of the samples.
func TestReadmePodCanBeUsed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pods.yaml")
	if err := os.WriteFile(file, []byte(blocks(t, "yaml")[2]), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := manifest.Load([]string{filepath.Join("..", "..", "config", "samples"), file}); err != nil {
		t.Error(err)
	}
}

func TestReadmeCommandPrintsWhatItSays(t *testing.T) {
	t.Parallel()
	var args []string
	for _, b := range blocks(t, "sh") {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(b), "go run ./cmd/dispatcher standalone "); ok {
			args = strings.Fields(rest)
		}
	}
	if len(args) == 0 {
		t.Fatal("the README does not say how to start the dispatcher")
	}
	for i, a := range args {
		if strings.HasSuffix(a, ".yaml") {
			args[i] = filepath.Join(readmeFiles(t), a)
		}
	}
	c, err := standaloneFlags(append(args,
		"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", t.TempDir(), "--log-level", "error"), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	printed, stdout := io.Pipe()
	c.Stdout = stdout
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- standalone.Run(ctx, c)
		stdout.Close()
	}()
	line, _ := bufio.NewReader(printed).ReadString('\n')
	cancel()
	go io.Copy(io.Discard, printed)
	if err := <-done; err != nil {
		t.Error(err)
	}
	got := regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(strings.TrimSpace(line), "127.0.0.1:8080")
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if got == "" || !strings.Contains(string(readme), "\n"+got+"\n") {
		t.Errorf("it printed %q, which the README does not say", got)
	}
}

func TestReadmeTargetsExist(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)(?:^|`)make ([a-z-]+)").FindAllStringSubmatch(string(readme), -1) {
		if !regexp.MustCompile(`(?m)^` + m[1] + `:`).Match(makefile) {
			t.Errorf("the README speaks of make %s, which is no target", m[1])
		}
	}
}

func TestReadmeLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(string(readme), -1) {
		if strings.Contains(m[1], "://") {
			continue
		}
		if _, err := os.Stat(filepath.Join("../..", m[1])); err != nil {
			t.Errorf("the README links to %s: %v", m[1], err)
		}
	}
}
