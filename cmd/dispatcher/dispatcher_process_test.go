package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

// patience bounds every wait for something that must happen. It is not how long
// anything may take: it ends a test that is stuck, on however slow a machine.
const patience = 2 * time.Minute

// TestMain also makes the test binary a broker (see broker_test.go), and removes
// the dispatcher that the tests have built.
func TestMain(m *testing.M) {
	if brokertest.IsBroker() {
		os.Exit(brokertest.Serve())
	}
	code := m.Run()
	os.RemoveAll(built.dir)
	os.Exit(code)
}

// built is the real program, as a user gets it: without the race detector.
var built struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// dispatcherBinary builds the program once for all tests.
func dispatcherBinary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "dispatcher-test"); built.err != nil {
			return
		}
		built.path = filepath.Join(built.dir, "dispatcher")
		out, err := exec.Command("go", "build", "-o", built.path, ".").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// installation is a dispatcher that may be started, killed and started again on
// the same files, folder and ports. Its methods are for the test's goroutine.
type installation struct {
	binary, flow, data string
	listen, admin      string
	args               []string // more of them

	stderr transcript // of all its processes
	cmd    *exec.Cmd
	ended  chan error // what Wait said, once
}

// install prepares a dispatcher for the flow in yaml. data is its folder for
// state, "" for one of the test's own.
func install(t testing.TB, yaml, data string) *installation {
	t.Helper()
	if data == "" {
		data = t.TempDir()
	}
	i := &installation{
		binary: dispatcherBinary(t),
		flow:   filepath.Join(t.TempDir(), "flow.yaml"),
		data:   data,
		listen: brokertest.FreeAddress(t),
		admin:  brokertest.FreeAddress(t),
	}
	if err := os.WriteFile(i.flow, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		i.kill()
		if t.Failed() {
			t.Logf("the dispatcher wrote to stderr, last:\n%s", i.stderr.tail(40))
		}
	})
	return i
}

// launch starts a process and does not wait until it is of use.
func (i *installation) launch(t testing.TB) io.Reader {
	t.Helper()
	i.cmd = exec.Command(i.binary, append([]string{
		"standalone", "-f", i.flow, "--listen", i.listen, "--admin", i.admin,
		"--data", i.data, "--output", "json", "--log-level", "warn",
	}, i.args...)...)
	i.cmd.SysProcAttr = childAttr()
	i.cmd.Stderr = &i.stderr
	stdout, w, err := os.Pipe() // not StdoutPipe: the reader below outlives Wait
	if err != nil {
		t.Fatal(err)
	}
	i.cmd.Stdout = w
	err = i.cmd.Start()
	w.Close()
	if err != nil {
		stdout.Close()
		t.Fatal(err)
	}
	i.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan<- error) {
		ended <- cmd.Wait()
		stdout.Close()
	}(i.cmd, i.ended)
	return stdout
}

// start starts a process, waits until it has told its addresses, and returns
// the Sequence's.
func (i *installation) start(t testing.TB) string {
	t.Helper()
	found := make(chan string, 1)
	stdout := i.launch(t)
	go func() {
		defer close(found)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var a struct{ Kind, URL string }
			if json.Unmarshal(lines.Bytes(), &a) == nil && a.Kind == "Sequence" {
				found <- a.URL
				return
			}
		}
	}()
	select {
	case url, ok := <-found:
		if ok {
			return url
		}
		t.Fatal("the dispatcher ended before it was ready")
	case <-time.After(patience):
		t.Fatal("the dispatcher does not become ready")
	}
	return ""
}

// kill ends the process with SIGKILL, and returns once it is gone.
func (i *installation) kill() {
	if i.cmd == nil {
		return
	}
	_ = i.cmd.Process.Kill() // it may be gone already
	<-i.ended
	i.cmd = nil
}

// terminate asks the process to stop, and returns its exit status.
func (i *installation) terminate(t testing.TB) int {
	t.Helper()
	if err := i.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("the dispatcher has ended by itself: %v", err)
	}
	var exit *exec.ExitError
	select {
	case err := <-i.ended:
		i.cmd = nil
		switch {
		case err == nil:
			return 0
		case errors.As(err, &exit):
			return exit.ExitCode()
		}
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal("the dispatcher does not stop")
	}
	return -1
}

// alive fails the test if the process has ended by itself.
func (i *installation) alive(t testing.TB) {
	t.Helper()
	select {
	case err := <-i.ended:
		i.ended <- err
		t.Fatalf("the dispatcher has ended by itself: %v", err)
	default:
	}
}

// metric is the value of a metric without labels, as the admin server shows it.
func (i *installation) metric(t testing.TB, name string) string {
	t.Helper()
	answer, err := http.Get("http://" + i.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return value
		}
	}
	t.Fatalf("there is no metric %s", name)
	return ""
}

// await polls until done, and fails the test after patience.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// transcript keeps what processes write.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// count tells how often s was written.
func (l *transcript) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

// tail is the last n lines.
func (l *transcript) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.SplitAfter(l.text.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
