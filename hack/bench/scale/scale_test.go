package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGoalsAreNotReachedBeyondTheirBounds(t *testing.T) {
	t.Parallel()
	reaches, misses := start{ready: goalReady, idle: goalMemory, cpu: goalCPU - 0.001}, start{ready: goalReady + 1, idle: goalMemory + 1, cpu: goalCPU}
	for want, starts := range map[string][][2]start{
		"yes": {{reaches, reaches}, {1: reaches}},
		"no":  {{misses, reaches}, {reaches, misses}, {1: misses}},
	} {
		for _, of := range starts {
			for _, r := range (&result{starts: of}).rows()[:3] {
				if r.reached != want {
					t.Errorf("%s %s, then %s: reached %q, want %q", r.what, r.first, r.second, r.reached, want)
				}
			}
		}
	}
}

func TestFlagsDoNotTakeWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-channels", "0"}, {"-idle", "10ms"}, {"extra"}, {"-unknown"}} {
		if _, err := parse(args, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v, want errUsage", args, err)
		}
	}
}

// The real dispatcher, with few channels and little patience.
func TestMeasureDoesNotLeaveAnythingOut(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts a dispatcher twice")
	}
	path := filepath.Join(t.TempDir(), "report.md")
	if err := os.WriteFile(path, []byte("<!-- scale:begin -->\n<!-- scale:end -->\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, progress bytes.Buffer
	err := run(t.Context(), []string{"-channels", "3", "-idle", "1s", "-rest", "1s", "-write", path}, &out, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	md, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{out.String(), string(md)} {
		for _, want := range []string{"3 channels", "start until ready", "goroutines", "stop on SIGTERM"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		if strings.Contains(text, " 0 MiB") {
			t.Errorf("memory was not measured:\n%s", text)
		}
	}
}
