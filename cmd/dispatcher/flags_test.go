package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	goodYAML = "apiVersion: messaging.sidestep.dev/v1alpha1\nkind: SidestepChannel\nmetadata: {name: c}\n"
	badYAML  = `apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: x}
spec:
  steps:
    - uri: http://127.0.0.1:1/
      delivery: {timeout: soon}
    - ref: {apiVersion: v1, kind: Service, name: missing}
`
)

// yamlFile makes a file and returns its path.
func yamlFile(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "flow.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// What is the caller's to mend ends with status 2, says what is wrong, and has
// made nothing.
func TestMistakesOfTheCallerAreToldWithStatus2(t *testing.T) {
	t.Parallel()
	good := yamlFile(t, goodYAML)
	bad := yamlFile(t, badYAML)
	empty := t.TempDir()
	absent := filepath.Join(t.TempDir(), "absent.yaml")
	tests := []struct {
		name string
		args []string
		want []string // on stderr
	}{
		{"no command", nil, []string{"Usage: dispatcher COMMAND", "standalone"}},
		{"unknown command", []string{"standalon"}, []string{`unknown command "standalon"`, "Usage: dispatcher COMMAND"}},
		{"a flag without a command", []string{"-f", good}, []string{`unknown command "-f"`}},
		{"no file", []string{"standalone"}, []string{"no file", "-f"}},
		{"unknown flag", []string{"standalone", "-f", good, "--lissen", "x"}, []string{"not defined: -lissen", "-listen"}},
		{"flag without its value", []string{"standalone", "-f"}, []string{"needs an argument: -f"}},
		{"argument that is no flag", []string{"standalone", "-f", good, "b.yaml"}, []string{`unexpected argument "b.yaml"`, "-f"}},
		{"output", []string{"standalone", "-f", good, "--output", "yaml"}, []string{`--output is "yaml"`, "text or json"}},
		{"log level", []string{"standalone", "-f", good, "--log-level", "loud"}, []string{`--log-level is "loud"`, "debug, info, warn or error"}},
		{"drain that is no duration", []string{"standalone", "-f", good, "--drain", "30"}, []string{"-drain", `"30"`}},
		{"negative drain", []string{"standalone", "-f", good, "--drain", "-1s"}, []string{"drain is -1s", "0s or more"}},
		{"empty address", []string{"standalone", "-f", good, "--listen", ""}, []string{"address to listen on is empty", "host:port"}},
		{"several mistakes", []string{"standalone", "--drain", "-1s"}, []string{"no file", "drain is -1s"}},

		{"files: each problem has its line and field", []string{"standalone", "-f", bad}, []string{
			bad + ":7: spec.steps[0].delivery.timeout: ",
			bad + ":8: spec.steps[1].ref.name: ",
		}},
		{"one bad file of two", []string{"standalone", "-f", good, "-f", bad}, []string{bad + ":7: "}},
		{"absent file", []string{"standalone", "-f", absent}, []string{absent + ": cannot be read"}},
		{"empty folder", []string{"standalone", "-f", empty}, []string{empty + ": has no file"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			args := tt.args
			if len(args) > 0 && args[0] == "standalone" {
				args = append([]string{"standalone", "--data", data, "--slip-key", data + ".pem"}, args[1:]...)
			}
			var stdout, stderr bytes.Buffer
			if got := run(args, &stdout, &stderr); got != 2 {
				t.Errorf("got status %d, want 2", got)
			}
			for _, w := range tt.want {
				if !strings.Contains(stderr.String(), w) {
					t.Errorf("stderr does not say %q:\n%s", w, &stderr)
				}
			}
			if stdout.Len() > 0 {
				t.Errorf("stdout got %q", &stdout)
			}
			for _, made := range []string{data, data + ".pem"} {
				if _, err := os.Stat(made); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s was made (%v)", made, err)
				}
			}
		})
	}
}

func TestHelpIsNoMistake(t *testing.T) {
	t.Parallel()
	all := []string{"-f PATH", "-listen ADDRESS", "-admin ADDRESS", "-data FOLDER", "-drain", "-slip-key FILE", "-key FILE", "-output FORMAT", "-log-level LEVEL"}
	for _, tt := range []struct {
		args, want []string
	}{
		{[]string{"--help"}, []string{"Usage: dispatcher COMMAND", "standalone"}},
		{[]string{"-h"}, []string{"Usage: dispatcher COMMAND"}},
		{[]string{"help"}, []string{"Usage: dispatcher COMMAND"}},
		{[]string{"standalone", "--help"}, all},
		{[]string{"standalone", "-h"}, all},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			if got := run(tt.args, &stdout, &stderr); got != 0 {
				t.Errorf("got status %d, want 0", got)
			}
			for _, w := range tt.want {
				if !strings.Contains(stderr.String(), w) {
					t.Errorf("the help does not say %q:\n%s", w, &stderr)
				}
			}
		})
	}
}

// What goes wrong later, without the caller's mistake, is status 1.
func TestStartThatFailsIsStatus1(t *testing.T) {
	t.Parallel()
	good := yamlFile(t, goodYAML)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	newer := t.TempDir()
	if err := os.WriteFile(filepath.Join(newer, "state.json"), []byte(`{"version": 99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"address that is none", []string{"--listen", "nowhere", "--data", t.TempDir()}, "listen for events"},
		{"admin address that is none", []string{"--admin", "nowhere", "--data", t.TempDir()}, "listen for the admin server"},
		{"data folder that is a file", []string{"--data", file}, "data folder"},
		{"state of a newer version", []string{"--data", newer}, "version 99, this program knows 1"},
		{"slip key that is none", []string{"--slip-key", file, "--data", t.TempDir()}, "slip key " + file},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"standalone", "-f", good, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, tt.args...)
			var stdout, stderr bytes.Buffer
			if got := run(args, &stdout, &stderr); got != 1 {
				t.Errorf("got status %d, want 1", got)
			}
			if !strings.Contains(stderr.String(), "dispatcher: ") || !strings.Contains(stderr.String(), tt.want) {
				t.Errorf("stderr does not say %q:\n%s", tt.want, &stderr)
			}
			if stdout.Len() > 0 {
				t.Errorf("stdout got %q", &stdout)
			}
		})
	}
}

// The statuses are those of the process, not only of run.
func TestProcessEndsWithTheStatus(t *testing.T) {
	t.Parallel()
	binary := dispatcherBinary(t)
	for want, args := range [][]string{
		{"--help"},
		{"standalone", "-f", yamlFile(t, goodYAML), "--listen", "nowhere", "--data", t.TempDir()},
		{"standalone", "-f", yamlFile(t, badYAML)},
	} {
		out, err := exec.Command(binary, args...).CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		got := 0
		if exit != nil {
			got = exit.ExitCode()
		}
		if got != want {
			t.Errorf("%q: got status %d, want %d\n%s", args, got, want, out)
		}
	}
}

func TestAZoneIsGivenWithAFlag(t *testing.T) {
	t.Parallel()
	c, err := standaloneFlags([]string{"-f", "x.yaml", "--zone", "west"}, os.Stderr)
	if err != nil || c.Zone != "west" {
		t.Errorf("got %q, %v", c.Zone, err)
	}
}
