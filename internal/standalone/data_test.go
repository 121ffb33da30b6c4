package standalone

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// With this variable set to a folder the test binary takes the folder, says so,
// and holds it until its stdin ends.
const holdFolder = "SIDESTEP_TEST_HOLD_FOLDER"

func hold(dir string) {
	if _, err := lockData(dir); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestDataFolderIsRefusedToASecondProcessUntilTheFirstIsDead(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "on", "the", "way")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), holdFolder+"="+dir)
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if said, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || said != "held\n" {
		t.Fatalf("the other process said %q, %v", said, err)
	}
	_, err = lockData(dir)
	if err == nil || !strings.Contains(err.Error(), dir+" is in use by another process") || !strings.Contains(err.Error(), "--data") {
		t.Errorf("got %v, want to be told that another process uses %s, and what to do", err, dir)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	unlock, err := lockData(dir)
	if err != nil {
		t.Fatalf("the folder of a dead process: %v", err)
	}
	unlock()
	if unlock, err = lockData(dir); err != nil {
		t.Fatalf("a folder that was let go: %v", err)
	}
	unlock()
}

func TestDataFolderIsForItsOwnerAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	unlock, err := lockData(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := openState(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{".": 0o700, "lock": 0o600, stateFile: 0o600} {
		wantMode(t, filepath.Join(dir, name), want)
	}
}

func wantMode(t *testing.T, name string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != want {
		t.Errorf("%s has mode %v, want %v", name, got, want)
	}
}

func TestDefaultDataFollowsTheBaseDirectorySpecification(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		t.Skip("no home folder")
	}
	fallback := filepath.Join(home, ".local", "state", "sidestep")
	for state, want := range map[string]string{
		"":         fallback,
		"relative": fallback, // the specification: to be ignored
		"/state":   "/state/sidestep",
	} {
		t.Setenv("XDG_STATE_HOME", state)
		got, err := DefaultData()
		if err != nil || got != want {
			t.Errorf("XDG_STATE_HOME=%q: got %q, %v; want %q", state, got, err, want)
		}
	}
}
