package natsbackend

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/backendtest"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

// replicated is a connection to all of a cluster, with every record on three of
// its nodes. A cluster that has just begun does not know of them all yet.
func replicated(addresses []string) Config {
	return Config{URL: "nats://" + strings.Join(addresses, ",nats://"), Replicas: 3, AckWait: testAckWait, Persist: true}
}

// A node, or each in turn if there is time, is killed under load and started again;
// the others carry on meanwhile.
func TestALostNodeLosesNoRecord(t *testing.T) {
	t.Parallel()
	c := brokertest.StartCluster(t)
	var loads []*backendtest.Load
	var backends []*Backend
	for _, ordered := range []bool{false, true} {
		config := replicated(c.Addresses())
		config.RequestTimeout = 3 * time.Second // a publish that waits for a dead node takes as long
		b := connectTo(t, config)
		loads, backends = append(loads, backendtest.StartLoad(t, b, ordered)), append(backends, b)
	}
	nodes := c[:1]
	if os.Getenv("SIDESTEP_LONG") != "" {
		nodes = c
	}
	for _, node := range nodes {
		goesOn(t, loads, 20)
		node.Kill()
		goesOn(t, loads, 20)
		node.Restart(t)
		for i, l := range loads {
			inSync(t, backends[i], l.Log)
		}
	}
	for _, l := range loads {
		l.Finish(t)
	}
}

// inSync waits until every replica of the log's stream, and of the catalog, has
// what the others have: only then may the next be killed.
func inSync(t *testing.T, b *Backend, log string) {
	t.Helper()
	stream, _ := subjectOf(t, b, log)
	for _, name := range []string{stream, b.names.catalogStream()} {
		eventually(t, "replicas", func() error {
			s, err := b.js.Stream(ctxOf(t), name)
			if err != nil {
				return err
			}
			i, err := s.Info(ctxOf(t))
			if err != nil {
				return err
			}
			if i.Cluster == nil || i.Cluster.Leader == "" || len(i.Cluster.Replicas) != 2 {
				return fmt.Errorf("stream %s: %+v", name, i.Cluster)
			}
			for _, r := range i.Cluster.Replicas {
				if !r.Current || r.Offline {
					return fmt.Errorf("stream %s: replica %s lags by %d", name, r.Name, r.Lag)
				}
			}
			return nil
		})
	}
}

// TestReplicated is a cluster of three, all of which is killed at once where the
// suite kills the broker. It takes its time, for which TestALostNodeLosesNoRecord
// stands in otherwise.
func TestReplicated(t *testing.T) {
	if os.Getenv("SIDESTEP_LONG") == "" {
		t.Skip("takes minutes: set SIDESTEP_LONG=1")
	}
	backendtest.Run(t, newReplicated)
}

func newReplicated(t testing.TB) backendtest.Harness {
	c := brokertest.StartCluster(t)
	var proxies sync.Map // backend.Backend -> []*brokertest.Proxy
	each := func(t testing.TB, b backend.Backend, do func(*brokertest.Proxy)) {
		t.Helper()
		all, ok := proxies.Load(b)
		if !ok {
			t.Fatal("not a connection of this harness")
		}
		for _, p := range all.([]*brokertest.Proxy) {
			do(p)
		}
	}
	return backendtest.Harness{
		Connect: func(t testing.TB) backend.Backend {
			var all []*brokertest.Proxy
			var addresses []string
			for _, a := range c.Addresses() {
				p := brokertest.StartProxy(t, a)
				all, addresses = append(all, p), append(addresses, p.Address())
			}
			b := connect(t, replicated(addresses))
			proxies.Store(b, all)
			return b
		},
		Kill:    func(t testing.TB, b backend.Backend) { each(t, b, (*brokertest.Proxy).Cut) },
		Cut:     func(t testing.TB, b backend.Backend) { each(t, b, (*brokertest.Proxy).Cut) },
		Mend:    func(t testing.TB, b backend.Backend) { each(t, b, (*brokertest.Proxy).Mend) },
		Restart: func(t testing.TB) { c.Restart(t) },
		Facts: backendtest.Facts{
			AckWait: testAckWait, AckFlush: ackFlush, Dedup: true, Patience: 2 * time.Minute, Leaks: brokertest.ProxyRuns(),
		},
	}
}
