package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sidestep-dev/sidestep/internal/freeport"
)

// How long a start and a stop may take before they are given up, whatever the
// goals are.
const (
	startLimit = 20 * time.Minute
	stopLimit  = 2 * time.Minute
	readyPoll  = 10 * time.Millisecond
)

// child is a running dispatcher.
type child struct {
	cmd     *exec.Cmd
	admin   string // URL of the admin server
	started time.Time
	base    string        // of URLs; to be read once it is ready
	printed chan struct{} // closed when all addresses are
	said    *bytes.Buffer // stderr; to be read when ended is closed
	ended   chan struct{}
	err     error // of the process, when ended is closed
}

// startChild returns when the dispatcher is ready, and how long that took. Its folder
// is within dir, where the manifests and the key are.
func startChild(ctx context.Context, path, dir, folder string, channels int) (c *child, took time.Duration, err error) {
	admin, err := freeport.Address()
	if err != nil {
		return nil, 0, err
	}
	c = &child{
		admin: "http://" + admin, said: new(bytes.Buffer),
		printed: make(chan struct{}), ended: make(chan struct{}),
	}
	c.cmd = exec.CommandContext(ctx, path, "standalone", "-f", filepath.Join(dir, manifestsFile),
		"--data", filepath.Join(dir, folder), "--key", filepath.Join(dir, "key"), "--listen", "127.0.0.1:0", "--admin", admin,
		"--output", "json", "--log-level", "warn")
	c.cmd.WaitDelay = time.Second
	c.cmd.SysProcAttr = childAttr()
	c.cmd.Stderr = c.said
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, 0, err
	}
	c.started = time.Now()
	if err := c.cmd.Start(); err != nil {
		return nil, 0, fmt.Errorf("start the dispatcher: %w", err)
	}
	go func() {
		defer close(c.ended)
		c.readURLs(out, channels/steps)
		c.err = c.cmd.Wait()
	}()
	if took, err = c.awaitReady(ctx); err != nil {
		c.kill()
		return nil, 0, fmt.Errorf("%w; the dispatcher said: %s", err, c.said)
	}
	return c, took, nil
}

// readURLs reads what the child prints until it ends: the addresses of n Sequences.
func (c *child) readURLs(r io.Reader, n int) {
	lines := bufio.NewScanner(r)
	read := 0
	for lines.Scan() {
		var a struct {
			URL string `json:"url"`
		}
		if json.Unmarshal(lines.Bytes(), &a) != nil || a.URL == "" {
			continue
		}
		if read++; read == n {
			if u, err := url.Parse(a.URL); err == nil {
				c.base = "http://" + u.Host
			}
			close(c.printed)
		}
	}
}

// awaitReady returns how long after its start the child said that it is ready.
func (c *child) awaitReady(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, errors.New("not ready in time"))
	defer cancel()
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for {
		if _, err := c.get(ctx, "/readyz"); err == nil {
			break
		}
		select {
		case <-poll.C:
		case <-c.ended:
			return 0, fmt.Errorf("it ended before it was ready: %w", c.err)
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	took := time.Since(c.started)
	select { // the addresses come next
	case <-c.printed:
		return took, nil
	case <-c.ended:
		return 0, fmt.Errorf("it ended before it had printed all addresses: %w", c.err)
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// stop asks the child to end and returns how long that took.
func (c *child) stop() (time.Duration, error) {
	began := time.Now()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, fmt.Errorf("stop the dispatcher: %w", err)
	}
	guard := time.AfterFunc(stopLimit, func() { _ = c.cmd.Process.Kill() })
	defer guard.Stop()
	<-c.ended
	if c.err != nil {
		return 0, fmt.Errorf("the dispatcher did not stop well: %w; it said: %s", c.err, c.said)
	}
	return time.Since(began), nil
}

// kill ends the child if it has not ended, and waits for that.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.ended
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// get asks the admin server.
func (c *child) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.admin+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %.200s", path, resp.Status, body)
	}
	return body, err
}
