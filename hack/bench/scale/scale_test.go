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
	reaches := start{ready: goalReady, idle: goalMemory, cpu: goalCPU - 0.001, connections: 20}
	misses := start{ready: goalReady + 1, idle: goalMemory + 1, cpu: goalCPU, connections: 21}
	for want, variants := range map[string][]variant{
		"yes": {{replicas: 1, starts: [2]start{reaches, reaches}}, {replicas: 3, starts: [2]start{reaches, reaches}, failover: goalFailover}},
		"no":  {{replicas: 1, starts: [2]start{reaches, reaches}}, {replicas: 3, starts: [2]start{reaches, misses}, failover: goalFailover + 1}},
	} {
		for _, r := range (&result{backend: onNATS, few: 10, variants: variants}).rows()[:5] {
			if r.reached != want {
				t.Errorf("%s %s: reached %q, want %q", r.what, r.cells, r.reached, want)
			}
		}
	}
}

func TestTheTimeInWhichKafkaMakesTopicsIsNotOurs(t *testing.T) {
	t.Parallel()
	for want, starts := range map[string][2]start{
		"yes": {{ready: 3 * goalReady}, {ready: goalReady}},
		"no":  {{ready: 3*goalReady + 1}, {ready: goalReady}},
		// It made them at the first start.
		"no.": {{ready: 3 * goalReady}, {ready: 3 * goalReady}},
	} {
		r := &result{backend: onKafka, topics: 2 * goalReady, variants: []variant{{replicas: 1, starts: starts}}}
		if got := r.rows()[0].reached; got != strings.TrimSuffix(want, ".") {
			t.Errorf("%v: reached %q, want %q", starts, got, want)
		}
	}
	starts := [2]start{{ready: goalReady + 1}, {ready: goalReady}}
	for _, backend := range []string{onNATS, embedded} {
		if r := (&result{backend: backend, variants: []variant{{replicas: 1, starts: starts}}}).rows()[0]; r.reached != "no" {
			t.Errorf("%s: reached %q, want no", backend, r.reached)
		}
	}
}

func TestFlagsDoNotTakeWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-channels", "0"}, {"-channels", "7"}, {"-backend", "x"}, {"-replicas", "3"}, {"-replicas", "x"}, {"-idle", "10ms"}, {"extra"}, {"-unknown"}} {
		if _, err := parse(args, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v, want errUsage", args, err)
		}
	}
}

// The real dispatcher, with few channels and little patience.
func TestMeasureDoesNotLeaveAnythingOut(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts dispatchers")
	}
	path := filepath.Join(t.TempDir(), "report.md")
	if err := os.WriteFile(path, []byte("<!-- scale-nats:begin -->\n<!-- scale-nats:end -->\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, progress bytes.Buffer
	err := run(t.Context(), []string{
		"-backend", "nats", "-replicas", "1,2", "-channels", "10", "-idle", "1s", "-rest", "1s", "-write", path,
	}, &out, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	md, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{out.String(), string(md)} {
		for _, want := range []string{"10 channels", "start until ready", "goroutines", "from the death of one", "stop on SIGTERM", "2 at once: restart"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		if strings.Contains(text, " 0 MiB") {
			t.Errorf("memory was not measured:\n%s", text)
		}
	}
}
