package natsbackend

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/backendtest"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
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
	c := brokertest.Start(t)
	var proxies sync.Map // backend.Backend -> *brokertest.Proxy
	of := func(t testing.TB, b backend.Backend) *brokertest.Proxy {
		t.Helper()
		p, ok := proxies.Load(b)
		if !ok {
			t.Fatal("not a connection of this harness")
		}
		return p.(*brokertest.Proxy)
	}
	return backendtest.Harness{
		Connect: func(t testing.TB) backend.Backend {
			p := brokertest.StartProxy(t, c.Address)
			b := connect(t, Config{URL: "nats://" + p.Address(), AckWait: testAckWait})
			proxies.Store(b, p)
			return b
		},
		Kill:    func(t testing.TB, b backend.Backend) { of(t, b).Cut() },
		Cut:     func(t testing.TB, b backend.Backend) { of(t, b).Cut() },
		Mend:    func(t testing.TB, b backend.Backend) { of(t, b).Mend() },
		Restart: func(t testing.TB) { c.Restart(t) },
		Facts:   backendtest.Facts{AckWait: testAckWait, AckFlush: ackFlush, Dedup: true, Leaks: brokertest.ProxyRuns()},
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
