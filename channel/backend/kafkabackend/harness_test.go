package kafkabackend

import (
	"context"
	"crypto/rand"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/backendtest"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
	"github.com/sidestep-dev/sidestep/internal/brokertest/kafkatest"
	"github.com/sidestep-dev/sidestep/internal/kafkabroker"
)

const testAckWait = 2 * time.Second

// TestBroker runs the suite on a real broker. The properties that kill it have one
// of their own: how long it takes to come back grows with the topics it has.
func TestBroker(t *testing.T) {
	backendtest.Run(t, func(t testing.TB) backendtest.Harness {
		b := kafkatest.Shared(t)
		restart := false
		if b.Ours() && strings.Contains(t.Name(), "/alone/") {
			b, restart = kafkatest.Start(t, kafkabroker.Options{}), true
		}
		h := newHarness(b.Address)
		if restart {
			h.Restart = b.Restart
		}
		h.Facts.Patience = 2 * time.Minute
		h.Facts.Leaks = append(h.Facts.Leaks, kafkatest.SharedRuns())
		return h
	})
}

// newHarness connects to a broker through proxies. Each test is an installation
// of its own, with a prefix of its own: the broker is as good as empty.
func newHarness(address string) backendtest.Harness {
	var proxies sync.Map // backend.Backend -> *brokertest.Proxy
	var prefixes sync.Map
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
			prefix, _ := prefixes.LoadOrStore(t.Name(), "t-"+strings.ToLower(rand.Text()[:12]))
			p := brokertest.StartProxy(t, address)
			b := connect(t, Config{
				Brokers: []string{address}, Dial: through(p), Prefix: prefix.(string), AckWait: testAckWait, Partitions: 3,
				Logger: traced(t),
			})
			proxies.Store(b, p)
			return b
		},
		Kill:  func(t testing.TB, b backend.Backend) { of(t, b).Cut() },
		Cut:   func(t testing.TB, b backend.Backend) { of(t, b).Cut() },
		Mend:  func(t testing.TB, b backend.Backend) { of(t, b).Mend() },
		Facts: backendtest.Facts{AckWait: testAckWait, Patience: time.Minute, Leaks: brokertest.ProxyRuns()},
	}
}

// long has the tests run that take minutes.
func long() bool { return os.Getenv("SIDESTEP_LONG") == "1" }

// through has connections made to the proxy, whatever address the brokers say
// that they have.
func through(p *brokertest.Proxy) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, p.Address())
	}
}

func connect(t testing.TB, c Config) *Backend {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b, err := Connect(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
