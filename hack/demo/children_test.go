package main

import (
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// beChild is what the test binary does when a test starts it as a child.
func beChild() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	os.Stdout.WriteString("up\n")
	switch os.Getenv("DEMO_TEST_CHILD") {
	case "dies":
		os.Stderr.WriteString("no more paint\n")
		os.Exit(3)
	case "ends well":
		<-told
	case "ends badly":
		<-told
		os.Exit(7)
	}
}

func TestAChildThatEndsByItselfFailsTheDemo(t *testing.T) {
	t.Setenv("DEMO_TEST_CHILD", "dies")
	failed := make(chan error, 1)
	c, err := startChild(func(err error) { failed <- err }, func(string) {}, func(string) {}, os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no more paint") {
		t.Errorf("got %v", err)
	}
	if err := c.stop(); err != nil {
		t.Errorf("it was reported already, but stop said %v", err)
	}
}

func TestAChildIsGoneAfterStopAndASecondStopIsNothing(t *testing.T) {
	for how, want := range map[string]string{"ends well": "", "ends badly": "exit status 7"} {
		t.Setenv("DEMO_TEST_CHILD", how)
		up := make(chan string, 1)
		c, err := startChild(func(err error) { t.Errorf("failed: %v", err) }, func(l string) { up <- l }, func(string) {}, os.Args[0])
		if err != nil {
			t.Fatal(err)
		}
		<-up
		err = c.stop()
		switch {
		case c.cmd.ProcessState == nil:
			t.Errorf("a child that %s was not awaited", how)
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("a child that %s: stop said %v", how, err)
		}
		if err := c.stop(); err != nil {
			t.Errorf("a second stop said %v", err)
		}
	}
	var nobody *child
	if err := nobody.stop(); err != nil {
		t.Error(err)
	}
}

func TestABuildThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip(err)
	}
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":  "module example.com/broken\n\ngo 1.26\n",
		"main.go": "package main\n\nfunc main() { missing() }\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := build(t.Context(), root, filepath.Join(root, "out"), ".", func(string) {})
	if err == nil || !strings.Contains(err.Error(), "main.go:3:15: undefined: missing") {
		t.Errorf("got %v", err)
	}
}
