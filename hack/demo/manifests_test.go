package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

const samples = "../../config/samples"

// The copy says what the samples say, but for the addresses: what is compared
// is each line that has something to say.
func TestOnlyAddressesAreRewritten(t *testing.T) {
	t.Parallel()
	addresses := make(map[string]string)
	for i, name := range []string{"resize", "caption", "frame", "collect", "sort", "flaky", "sepia", "album", "lost", "probe", "poster", "gallery"} {
		addresses[name] = "http://127.0.0.1:4000" + string(rune('1'+i))
	}
	for _, file := range []string{"pics.yaml", "prints.yaml"} {
		was, err := os.ReadFile(filepath.Join(samples, file))
		if err != nil {
			t.Fatal(err)
		}
		is, err := rewrite(was, addresses)
		if err != nil {
			t.Fatal(err)
		}
		want := string(was)
		for i, name := range []string{"resize", "caption", "frame", "collect", "sort", "flaky", "sepia", "album", "lost", "probe", "poster", "gallery"} {
			want = strings.ReplaceAll(want, "http://127.0.0.1:910"+string(rune('1'+i)), addresses[name])
		}
		if got, want := said(string(is)), said(want); got != want {
			t.Errorf("%s became\n%s\nwant\n%s", file, got, want)
		}
	}
}

// said is text without what YAML does not care about: how far lists are
// indented, and empty lines.
func said(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

func TestTheCopyLoads(t *testing.T) {
	t.Parallel()
	addresses := make(map[string]string)
	for _, name := range []string{"resize", "caption", "frame", "collect", "sort", "flaky", "sepia", "album", "lost", "probe", "poster", "gallery"} {
		addresses[name] = "http://127.0.0.1:40000"
	}
	to := t.TempDir()
	if err := rewriteAll(samples, to, addresses); err != nil {
		t.Fatal(err)
	}
	if _, err := manifest.Load([]string{to}); err != nil {
		t.Error(err)
	}
}

func TestAServiceWithoutAStepIsTold(t *testing.T) {
	t.Parallel()
	const service = "kind: Service\nmetadata:\n  name: polish\n  annotations: {sidestep.dev/address: 'http://127.0.0.1:1'}\n"
	_, err := rewrite([]byte(service), map[string]string{"resize": "http://127.0.0.1:2"})
	if err == nil || !strings.Contains(err.Error(), `line 3: no step is called "polish"`) {
		t.Errorf("got %v", err)
	}
	if err := rewriteAll(t.TempDir(), t.TempDir(), nil); err == nil {
		t.Error("a folder without YAML was no error")
	}
}

func TestWhatIsNoServiceWithAnAddressStaysAsItIs(t *testing.T) {
	t.Parallel()
	const text = "# first\nkind: Sequence\nmetadata:\n  name: resize\n  annotations:\n    sidestep.dev/address: x # kept\n---\n" +
		"kind: Service\nmetadata:\n  name: other\n---\n{}\n"
	got, err := rewrite([]byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != text {
		t.Errorf("became\n%s", got)
	}
}
