package natsbackend

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/backendtest"
)

const testAckWait = 2 * time.Second

// TestEmbedded is the way of the standalone process: the server is in it.
func TestEmbedded(t *testing.T) {
	backendtest.Run(t, func(t testing.TB) backendtest.Harness {
		s, err := StartServer(ServerConfig{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stopServer(t, s) })
		return backendtest.Harness{
			Connect: func(t testing.TB) backend.Backend {
				return connect(t, Config{Server: s, AckWait: testAckWait})
			},
			Facts: backendtest.Facts{AckWait: testAckWait, AckFlush: ackFlush, Dedup: true},
		}
	})
}

// TestExternal is the way of a cluster: the server is a process of its own,
// which is killed with SIGKILL, and connections are cut.
func TestExternal(t *testing.T) {
	backendtest.Run(t, newExternal)
}

func newExternal(t testing.TB) backendtest.Harness {
	c := startChild(t)
	var proxies sync.Map // backend.Backend -> *proxy
	of := func(t testing.TB, b backend.Backend) *proxy {
		t.Helper()
		p, ok := proxies.Load(b)
		if !ok {
			t.Fatal("not a connection of this harness")
		}
		return p.(*proxy)
	}
	return backendtest.Harness{
		Connect: func(t testing.TB) backend.Backend {
			p := startProxy(t, c.address)
			b := connect(t, Config{URL: "nats://" + p.address(), AckWait: testAckWait})
			proxies.Store(b, p)
			return b
		},
		Kill:    func(t testing.TB, b backend.Backend) { of(t, b).cut() },
		Cut:     func(t testing.TB, b backend.Backend) { of(t, b).cut() },
		Mend:    func(t testing.TB, b backend.Backend) { of(t, b).mend() },
		Restart: func(t testing.TB) { c.restart(t) },
		Facts:   backendtest.Facts{AckWait: testAckWait, AckFlush: ackFlush, Dedup: true},
	}
}

func connect(t testing.TB, c Config) *Backend {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	b, err := Connect(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func stopServer(t testing.TB, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

// child is a nats-server in a process of its own.
type child struct {
	dir, address string
	cmd          *exec.Cmd
}

func startChild(t testing.TB) *child {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &child{dir: t.TempDir(), address: l.Addr().String()}
	l.Close()
	c.start(t)
	t.Cleanup(c.kill)
	return c
}

func (c *child) start(t testing.TB) {
	t.Helper()
	_, port, _ := strings.Cut(c.address, ":")
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(os.Environ(), childDir+"="+c.dir, childPort+"="+port)
	c.cmd.Stderr = os.Stderr
	if _, err := c.cmd.StdinPipe(); err != nil { // open until we die
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := c.reachable()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nats-server on %s does not come up: %v", c.address, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// reachable: it has read its store and serves JetStream.
func (c *child) reachable() error {
	nc, err := nats.Connect("nats://"+c.address, nats.NoReconnect())
	if err != nil {
		return err
	}
	defer nc.Close()
	m, err := nc.Request("$JS.API.INFO", nil, time.Second)
	if err == nil && strings.Contains(string(m.Data), `"error"`) {
		err = fmt.Errorf("JetStream: %s", m.Data)
	}
	return err
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

func (c *child) restart(t testing.TB) {
	t.Helper()
	c.kill()
	c.start(t)
}
