package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// patience bounds every wait for something that must happen.
const patience = 2 * time.Minute

// stepMode, in the environment, makes the test binary a step: see serveStep.
const stepMode = "SIDESTEP_TEST_STEP"

func TestMain(m *testing.M) {
	if mode := os.Getenv(stepMode); mode != "" {
		serveStep(mode)
	}
	code := m.Run()
	os.RemoveAll(built.dir)
	os.Exit(code)
}

// serveStep is a step that tells its port, and then each call that has come. It
// answers with its own name at the end of what it was sent; or with half of an
// answer that never ends; or not at all.
func serveStep(mode string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	fmt.Println(port)
	panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // a test's
		b, _ := io.ReadAll(r.Body)
		h := w.Header()
		for _, name := range []string{"Ce-Specversion", "Ce-Id", "Ce-Source", "Ce-Type", "Content-Type"} {
			h[name] = r.Header[name]
		}
		switch mode {
		case "half":
			h.Set("Content-Length", "100000000")
			_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20))
			_ = http.NewResponseController(w).Flush()
			fmt.Println("called")
			select {}
		case "hangs":
			fmt.Println("called")
			select {}
		case "waits":
			fmt.Println("called")
			_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		}
		fmt.Fprintf(w, "%s>%s", b, mode)
	})))
}

// built is the real program, as a user gets it.
var built struct {
	once sync.Once
	dir  string
	path string
	err  error
}

func binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "sidecar-test"); built.err != nil {
			return
		}
		built.path = filepath.Join(built.dir, "sidecar")
		if out, err := exec.Command("go", "build", "-o", built.path, ".").CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// process is a child that dies with the test.
type process struct {
	*exec.Cmd
	stdin io.WriteCloser
	lines chan string
	ended chan struct{}
}

func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	cmd.SysProcAttr = childAttr()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: cmd, stdin: stdin, lines: make(chan string, 1024), ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
		_ = cmd.Wait()
		out.Close()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%v wrote:\n%s", cmd.Args, &stderr)
		}
	})
	return p
}

func (p *process) kill() {
	_ = p.Process.Kill()
	<-p.ended
}

func (p *process) line(t *testing.T) string {
	t.Helper()
	select {
	case l := <-p.lines:
		return l
	case <-time.After(patience):
		t.Fatalf("%v writes nothing", p.Args)
	case <-p.ended:
		t.Fatalf("%v has ended: %v", p.Args, p.ProcessState)
	}
	return ""
}

// step is a child that is a step.
type step struct {
	*process
	port uint16
}

func startStep(t *testing.T, mode string) *step {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), stepMode+"="+mode)
	s := &step{process: start(t, cmd)}
	n, err := strconv.ParseUint(s.line(t), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	s.port = uint16(n)
	return s
}

// pod is a sidecar that may be started again, and what it runs with.
type pod struct {
	t      *testing.T
	keys   string // file of those that it trusts
	claims string
	signer *wire.Signer
	slip   *wire.Slip
	args   []string
	*process
	url string
}

// newPod starts a sidecar for steps, with a slip for all of them in order.
func newPod(t *testing.T, steps ...*step) *pod {
	t.Helper()
	p := &pod{
		t: t, keys: filepath.Join(t.TempDir(), "keys.pem"), claims: t.TempDir(),
		slip: &wire.Slip{Pod: "pod-1", Namespace: "pics"},
	}
	p.rotate()
	var ports []string
	for i, s := range steps {
		ports = append(ports, strconv.Itoa(int(s.port)))
		p.slip.Steps = append(p.slip.Steps, wire.Step{UID: fmt.Sprint("uid-", i), Port: s.port, Path: "/"})
	}
	p.args = []string{
		"--listen", "127.0.0.1:0", "--allow", strings.Join(ports, ","), "--trust-keys", p.keys, "--claims", p.claims,
		"--pod-uid", "pod-1", "--namespace", "pics",
	}
	p.start()
	return p
}

func (p *pod) start() {
	p.t.Helper()
	p.process = start(p.t, exec.Command(binary(p.t), p.args...))
	p.url = p.line(p.t)
}

// rotate replaces the key that is trusted, and that slips are signed with.
func (p *pod) rotate() {
	p.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		p.t.Fatal(err)
	}
	p.signer = wire.NewSigner(private)
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if err := os.WriteFile(p.keys+".new", block, 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(p.keys+".new", p.keys); err != nil {
		p.t.Fatal(err)
	}
}

// answer is what came of a post.
type answer struct {
	status int
	wire.Outcome
	body string
	err  error
}

func (p *pod) post(data string) *answer {
	p.t.Helper()
	return <-p.background(data)
}

func (p *pod) background(data string) <-chan *answer {
	p.t.Helper()
	slip, err := p.signer.Sign(p.slip)
	if err != nil {
		p.t.Fatal(err)
	}
	done := make(chan *answer, 1)
	url := p.url
	go func() {
		a := new(answer)
		a.err = a.post(url, slip, data)
		done <- a
	}()
	return done
}

func (a *answer) post(url, slip, data string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+wire.ChainPath, strings.NewReader(data))
	if err != nil {
		return err
	}
	for name, value := range map[string]string{
		wire.SlipHeader: slip, "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "content-type": "text/plain",
	} {
		req.Header.Set(name, value)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	a.status = resp.StatusCode
	b, err := io.ReadAll(resp.Body)
	a.body = string(b)
	if err != nil {
		return err
	}
	return wire.ParseOutcome(resp.Header.Get(wire.OutcomeHeader), &a.Outcome)
}

func (a *answer) want(t *testing.T, kind wire.Kind, reason wire.Reason, at int, body string) {
	t.Helper()
	if a.err != nil || a.Kind != kind || a.Reason != reason || a.Step != at || a.body != body {
		t.Errorf("%d %v %v at %d, error %q, body %.50q (%d bytes), %v\nwant %v %v at %d, body %.50q (%d bytes)", a.status, a.Kind, a.Reason, a.Step,
			a.Seen.Error, a.body, len(a.body), a.err, kind, reason, at, body, len(body))
	}
}

// spools lists what the sidecar keeps in the folder for claims.
func (p *pod) spools() []string {
	p.t.Helper()
	names, err := filepath.Glob(filepath.Join(p.claims, "sidestep-spool-*"))
	if err != nil {
		p.t.Fatal(err)
	}
	return names
}

func (p *pod) eventually(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("it does not come to be: %s", what)
		}
	}
}

// get is the status of one of the other paths.
func (p *pod) get(t *testing.T, path string) int {
	t.Helper()
	resp, err := http.Get(p.url + path)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

var large = strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB: a file

func TestAStepThatIsKilledInMidAnswerLosesNothing(t *testing.T) {
	t.Parallel()
	first, half, after := startStep(t, "first"), startStep(t, "half"), startStep(t, "after")
	p := newPod(t, first, half, after)
	small, big := p.background("x"), p.background(large)
	if got := half.line(t) + half.line(t); got != "calledcalled" {
		t.Fatalf("got %q", got)
	}
	half.kill()
	(<-small).want(t, wire.Spilled, wire.Unreachable, 1, "x>first")
	(<-big).want(t, wire.Spilled, wire.Unreachable, 1, large+">first")
	p.post("x").want(t, wire.Spilled, wire.Unreachable, 1, "x>first")
	p.eventually("no file is left", func() bool { return len(p.spools()) == 0 })
	if len(after.lines) != 0 {
		t.Error("the step after it was called")
	}
}

func TestASidecarThatIsKilledHasNoOutcomeAndLeavesNoFiles(t *testing.T) {
	t.Parallel()
	hangs := startStep(t, "hangs")
	p := newPod(t, hangs)
	chain := p.background(large)
	hangs.line(t)
	if len(p.spools()) != 1 {
		t.Fatalf("files: %v", p.spools())
	}
	p.kill()
	if a := <-chain; a.err == nil {
		t.Errorf("it has an outcome: %+v", a.Outcome)
	}
	own := filepath.Join(p.claims, "a-steps-own")
	if err := os.WriteFile(own, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.start()
	if len(p.spools()) != 0 {
		t.Errorf("files: %v", p.spools())
	}
	if _, err := os.Stat(own); err != nil {
		t.Error(err)
	}
}

func TestSIGTERMEndsChainsAndThenTheProcess(t *testing.T) {
	t.Parallel()
	waits, after := startStep(t, "waits"), startStep(t, "after")
	p := newPod(t, waits, after)
	chain := p.background("x")
	waits.line(t)
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.eventually("it is not ready", func() bool { return p.get(t, "/.sidestep/readyz") == http.StatusServiceUnavailable })
	p.post("y").want(t, wire.Busy, wire.Overload, 0, "")
	if _, err := io.WriteString(waits.stdin, "go\n"); err != nil {
		t.Fatal(err)
	}
	(<-chain).want(t, wire.Spilled, wire.Overload, 1, "x>waits")
	<-p.ended
	if code := p.ProcessState.ExitCode(); code != exitOK {
		t.Errorf("exit status %d", code)
	}
}

func TestKeysAreRotatedWithoutARestart(t *testing.T) {
	t.Parallel()
	p := newPod(t, startStep(t, "a"))
	p.post("x").want(t, wire.Completed, 0, 0, "x>a")
	old := p.signer
	p.rotate()
	p.eventually("the new key is trusted", func() bool { return p.post("x").Kind == wire.Completed })
	p.signer = old
	if a := p.post("x"); a.Reason != wire.NotMine || a.status != http.StatusForbidden {
		t.Errorf("the old key: %d %+v", a.status, a.Outcome)
	}
}

// TestItStartsBeforeItsKeysAreThere: a workload must not wait for who publishes them.
func TestItStartsBeforeItsKeysAreThere(t *testing.T) {
	t.Parallel()
	p := newPod(t, startStep(t, "a"))
	p.kill()
	if err := os.Remove(p.keys); err != nil {
		t.Fatal(err)
	}
	p.args = append(p.args, "--await-keys")
	p.start()
	if got := p.get(t, wire.HandshakePath); got != http.StatusServiceUnavailable {
		t.Errorf("a handshake is answered %d", got)
	}
	if a := p.post("x"); a.Reason != wire.NotMine {
		t.Errorf("trusts somebody: %+v", a.Outcome)
	}
	p.rotate()
	p.eventually("the key is trusted", func() bool { return p.post("x").Kind == wire.Completed })
	if got := p.get(t, wire.HandshakePath); got != http.StatusOK {
		t.Errorf("a handshake is answered %d", got)
	}
}

func TestWhatIsWrongWithTheFlagsIsSaid(t *testing.T) {
	t.Parallel()
	good := []string{"--listen", "127.0.0.1:0", "--allow", "9101", "--trust-keys", "/does/not/exist"}
	for _, tt := range []struct {
		args []string
		want string
		code int
	}{
		{nil, "--listen is missing", exitUsage},
		{good[:4], "--trust-keys is missing", exitUsage},
		{[]string{"--listen", ":0", "--trust-keys", "x"}, "no ports are allowed", exitUsage},
		{[]string{"--allow", "10.0.0.1:80"}, "want a port", exitUsage},
		{append([]string{"--step", "a/b=9102"}, good...), "want NAME=PORT", exitUsage},
		{append([]string{"--step", "a=9102", "--step", "a=9103"}, good...), "step a is there twice", exitUsage},
		{append([]string{"--step", "a=9101"}, good...), "port 9101 is allowed twice", exitUsage},
		{append(good[:6:6], "--claims", "relative"), "absolute path", exitUsage},
		{append(good[:6:6], "--log-level", "loud"), "--log-level", exitUsage},
		{append(good[:6:6], "more"), "unexpected argument", exitUsage},
		{append(good[:6:6], "--claims", "/does/not/exist"), "claims folder", exitError},
		{good, "/does/not/exist", exitUsage},
		{[]string{"--help"}, "Usage", exitOK},
	} {
		var stderr bytes.Buffer
		if code := run(context.Background(), tt.args, io.Discard, &stderr); code != tt.code || !strings.Contains(stderr.String(), tt.want) {
			t.Errorf("%q: exit status %d, want %d, with %q:\n%s", tt.args, code, tt.code, tt.want, &stderr)
		}
	}
}
