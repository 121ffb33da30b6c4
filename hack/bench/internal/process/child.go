package process

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Ready is what a child says of itself when it can be used.
type Ready struct {
	// URL is where it takes events, or its address if it has no URL.
	URL string `json:"url"`
	// Kind and Name are those of the object that has the URL, if any.
	Kind string `json:"kind,omitempty"`
	Name string `json:"name,omitempty"`
}

// Command is a child to be.
type Command struct {
	// Name is what it is called in errors.
	Name string
	Path string
	Args []string
	// Accept tells whether a line is the one that is waited for; nil
	// accepts any.
	Accept func(Ready) bool
}

// StartTimeout bounds the time from Start until the child is ready.
const StartTimeout = 60 * time.Second

// Child is a process that is ready. Its methods may be called from any
// goroutine, except that Stdout is one reader's.
type Child struct {
	Ready
	// Stdout is what it prints after it became ready.
	Stdout *bufio.Reader

	name   string
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr *tail
	stop   sync.Once
}

// Start runs a command and waits until it says that it is ready. The child is
// killed when ctx ends, when Stop is called, and when this process dies.
func Start(ctx context.Context, c Command) (*Child, error) {
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	child := &Child{name: c.Name, cmd: cmd, stderr: new(tail)}
	cmd.Stderr = child.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	child.stdin = stdin
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	child.Stdout = bufio.NewReader(stdout)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	if err := child.awaitReady(c.Accept); err != nil {
		child.Stop()
		return nil, fmt.Errorf("start %s: %w%s", c.Name, err, child.stderr)
	}
	return child, nil
}

func (c *Child) awaitReady(accept func(Ready) bool) error {
	guard := time.AfterFunc(StartTimeout, func() { _ = c.cmd.Process.Kill() })
	defer guard.Stop()
	for {
		line, err := c.Stdout.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("it ended before it was ready: %w", err)
		}
		if r := readyOf(line); r.URL != "" && (accept == nil || accept(r)) {
			c.Ready = r
			return nil
		}
	}
}

// readyOf reads a line of JSON, or one that is a URL and nothing else.
func readyOf(line []byte) (r Ready) {
	if line = bytes.TrimSpace(line); bytes.HasPrefix(line, []byte("http://")) {
		return Ready{URL: string(line)}
	}
	if json.Unmarshal(line, &r) != nil {
		return Ready{}
	}
	return r
}

// Stop kills the process and waits for its end. What it held is thrown away:
// a benchmark's data is of no use afterwards. A second Stop is nothing.
func (c *Child) Stop() {
	c.stop.Do(func() {
		_ = c.cmd.Process.Kill()
		_ = c.stdin.Close()
		_ = c.cmd.Wait() // it was killed: its status says nothing
	})
}

// Explain adds to an error what the child last wrote to stderr.
func (c *Child) Explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\n%s said:%s", err, c.name, c.stderr)
}

// Said is the end of what the child has written to stderr so far.
func (c *Child) Said() string { return c.stderr.String() }

// Wait waits until the process ends by itself and returns all it printed
// after it became ready.
func (c *Child) Wait() ([]byte, error) {
	out, err := io.ReadAll(c.Stdout)
	c.stop.Do(func() {
		defer c.stdin.Close()
		err = errors.Join(err, c.cmd.Wait())
	})
	if err != nil {
		return out, c.Explain(fmt.Errorf("wait for %s: %w", c.name, err))
	}
	return out, nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const maxTail = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - maxTail; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	said := bytes.TrimSpace(t.buf)
	if len(said) == 0 {
		return " nothing"
	}
	return "\n" + string(said)
}
