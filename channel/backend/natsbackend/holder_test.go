package natsbackend

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

// With these variables set, the test binary is a member of a group, which
// prints what it receives, acks it, and ends when its stdin is closed.
const (
	holderURL = "SIDESTEP_TEST_HOLDER_URL"
	holderLog = "SIDESTEP_TEST_HOLDER_LOG"
)

// hold is the main of a holder, a member of the group "g".
func hold(url string) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	b, err := Connect(ctx, Config{URL: url, AckWait: testAckWait})
	if err != nil {
		return err
	}
	sub, err := b.Subscribe(ctx, os.Getenv(holderLog), "g", backend.Options{})
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	for {
		d, err := sub.Receive(ctx)
		if ctx.Err() != nil {
			return b.Close(context.Background())
		}
		if err != nil {
			return err
		}
		fmt.Println(string(d.Data))
		if err := sub.Ack(d); err != nil {
			return err
		}
	}
}

// holder is such a process.
type holder struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan string // what it printed
}

func startHolder(t testing.TB, c *brokertest.Broker, log string) *holder {
	t.Helper()
	h := &holder{cmd: exec.Command(os.Args[0]), lines: make(chan string, 1000)}
	h.cmd.Env = append(os.Environ(), holderURL+"=nats://"+c.Address, holderLog+"="+log)
	h.cmd.Stderr = os.Stderr
	var err error
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(h.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			h.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = h.cmd.Process.Kill()
		<-read
		_ = h.cmd.Wait()
	})
	return h
}

// expect waits for the next line.
func (h *holder) expect(t testing.TB, want string) {
	t.Helper()
	select {
	case got := <-h.lines:
		if got != want {
			t.Fatalf("the holder printed %q, want %q", got, want)
		}
	case <-ctxOf(t).Done():
		t.Fatalf("the holder does not print %q", want)
	}
}

// pause returns when the holder stands still. The kernel stops a process once one
// of its threads has taken the signal; until then, which takes a while on a busy
// machine, the others receive and ack what comes, as they may.
func (h *holder) pause(t testing.TB) {
	t.Helper()
	h.signal(t, syscall.SIGSTOP)
	eventually(t, "pause of the holder", func() error {
		var s syscall.WaitStatus
		_, err := syscall.Wait4(h.cmd.Process.Pid, &s, syscall.WUNTRACED|syscall.WNOHANG, nil)
		if err == nil && !s.Stopped() {
			err = errors.New("it goes on")
		}
		return err
	})
}

func (h *holder) resume(t testing.TB) { h.signal(t, syscall.SIGCONT) }

func (h *holder) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := h.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// end has the holder end, and returns what it has printed since.
func (h *holder) end(t testing.TB) []string {
	t.Helper()
	h.stdin.Close()
	var said []string
	for {
		select {
		case line, ok := <-h.lines:
			if !ok {
				return said
			}
			said = append(said, line)
		case <-ctxOf(t).Done():
			t.Fatal("the holder does not end")
		}
	}
}
