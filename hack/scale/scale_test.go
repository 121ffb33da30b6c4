package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestManifestsHaveEveryChannelAndSubscription(t *testing.T) {
	t.Parallel()
	const channels = 20
	path := filepath.Join(t.TempDir(), manifestsFile)
	if err := writeManifests(path, channels, "http://127.0.0.1:1/"); err != nil {
		t.Fatal(err)
	}
	set, err := manifest.Load([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	table, addresses, err := set.Table(manifest.TableOptions{
		BaseURL: "http://127.0.0.1:2",
		UID:     func(kind, namespace, name string) string { return kind + "." + namespace + "." + name },
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Channels) != channels || len(addresses) != channels {
		t.Fatalf("%d channels with %d addresses, want %d", len(table.Channels), len(addresses), channels)
	}
	for _, c := range table.Channels {
		if len(c.Subscriptions) != 1 || c.Subscriptions[0].Subscriber == nil {
			t.Errorf("channel %s has not one subscription with a step", c.Name)
		}
	}
}

func TestParseCPUIsNotMisledByTheProcessName(t *testing.T) {
	t.Parallel()
	got, err := parseCPU([]byte("7 (a) b) 9 9) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0\n"))
	if err != nil || got != 1750*time.Millisecond {
		t.Errorf("%v, %v; want 1.75s", got, err)
	}
	if _, err := parseCPU([]byte("7 (a) S 1 2")); !errors.Is(err, errFormat) {
		t.Errorf("cut short: %v, want errFormat", err)
	}
}

func TestParseMemoryReadsTheFieldThatIsAskedFor(t *testing.T) {
	t.Parallel()
	status := []byte("VmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t7\n")
	for field, want := range map[string]int64{"VmRSS": 1 << 20, "VmHWM": 2 << 20} {
		if got, err := parseMemory(status, field); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", field, got, err, want)
		}
	}
	for _, field := range []string{"VmPin", "Threads"} {
		if _, err := parseMemory(status, field); !errors.Is(err, errFormat) {
			t.Errorf("%s: %v, want errFormat", field, err)
		}
	}
}

func TestGoalsAreNotReachedBeyondTheirBounds(t *testing.T) {
	t.Parallel()
	at := result{starts: [2]start{1: {ready: goalReady, idle: goalMemory, cpu: goalCPU - 0.001}}}
	beyond := result{starts: [2]start{1: {ready: goalReady + 1, idle: goalMemory + 1, cpu: goalCPU}}}
	for i := range 3 {
		if r := at.rows()[i]; r.reached != "yes" {
			t.Errorf("%s %s: reached %q", r.what, r.second, r.reached)
		}
		if r := beyond.rows()[i]; r.reached != "no" {
			t.Errorf("%s %s: reached %q", r.what, r.second, r.reached)
		}
	}
}

func TestWriteSectionDoesNotTouchTheRest(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "scale.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n" + beginMarker + "old\n" + endMarker + "after\n")
	if err := writeSection(path, "new\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if want := "before\n" + beginMarker + "new\n" + endMarker + "after\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	for name, text := range map[string]string{
		"none": "text\n", "no end": beginMarker, "no begin": endMarker, "wrong order": endMarker + beginMarker,
		"two": beginMarker + endMarker + beginMarker + endMarker,
	} {
		write(text)
		if err := writeSection(path, "new\n"); err == nil {
			t.Errorf("markers %s: no error", name)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("markers %s: the file was changed to %q, %v", name, got, err)
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
	if err := os.WriteFile(path, []byte(beginMarker+endMarker), 0o644); err != nil {
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
