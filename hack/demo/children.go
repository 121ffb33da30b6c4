package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

// grace is how long a child may take to end once it was told to.
const grace = 15 * time.Second

// child is a process that must not end before it is told to.
type child struct {
	name    string
	cmd     *exec.Cmd
	said    tail
	claimed atomic.Bool   // its end is stop's, or else the failure's, to report
	ended   chan struct{} // closed when err is set
	err     error
}

// startChild runs a program. out and log get the lines it prints to stdout and
// stderr. If it ends by itself, fail is called with the reason. It
// has no context: it is for stop to end the children in their order.
func startChild(fail func(error), out, log func(string), path string, args ...string) (*child, error) {
	c := &child{name: filepath.Base(path), cmd: exec.Command(path, args...), ended: make(chan struct{})}
	c.cmd.SysProcAttr = childAttr()
	c.cmd.WaitDelay = time.Second // for pipes that a grandchild keeps open
	c.cmd.Stdout = &lines{emit: out}
	c.cmd.Stderr = &lines{emit: func(l string) {
		c.said.add(l)
		log(l)
	}}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", c.name, err)
	}
	go func() {
		defer close(c.ended)
		c.err = c.cmd.Wait()
		if c.claimed.CompareAndSwap(false, true) {
			fail(c.explain(errors.New("ended by itself")))
		}
	}()
	return c, nil
}

func (c *child) explain(err error) error {
	return fmt.Errorf("the %s %w (%s); it last said:%s", c.name, err, c.cmd.ProcessState, &c.said)
}

// moment is how long an error that may come of a child's end waits for that to
// be known, which then has ended ctx and is the better reason.
const moment = time.Second

// endsSoon waits for the end of ctx, a moment at most.
func endsSoon(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	case <-time.After(moment):
		return false
	}
}

// stop asks the child to end, and kills it if it does not. A child that has
// ended by itself is no error here: that was reported. Nor is a second stop.
func (c *child) stop() error {
	if c == nil {
		return nil
	}
	if !c.claimed.CompareAndSwap(false, true) {
		<-c.ended
		return nil
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		_ = c.cmd.Process.Kill()
	}
	kill := time.AfterFunc(grace, func() { _ = c.cmd.Process.Kill() })
	defer kill.Stop()
	<-c.ended
	if c.err != nil {
		return c.explain(fmt.Errorf("did not end well when it was asked to, within %v", grace))
	}
	return nil
}
