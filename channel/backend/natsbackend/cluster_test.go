package natsbackend

import (
	"context"
	"errors"
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
// its nodes.
func replicated(addresses []string) Config {
	return Config{URL: "nats://" + strings.Join(addresses, ",nats://"), Replicas: 3, AckWait: testAckWait, RequestTimeout: 3 * time.Second}
}

// load publishes to a log, and receives from it, until it is told to stop.
type load struct {
	b       *Backend
	log     string
	ordered bool

	mu       sync.Mutex
	accepted int
	seen     map[string]bool
	last     map[string]int // of each key
	progress chan struct{}
}

const loadKeys = 4

// publish never gives up a record: it is the ingress and its client in one.
func (l *load) publish(t *testing.T, ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		r := &backend.Record{
			Key: fmt.Sprint(i % loadKeys), Dedup: fmt.Sprint(i), Data: []byte(fmt.Sprint(i)),
			Header: head("ce-id", fmt.Sprint(i)),
		}
		for {
			// Once begun it is seen through, so that we know what was accepted.
			try, cancel := context.WithTimeout(context.Background(), patience)
			err := l.b.Publish(try, l.log, r)
			cancel()
			if err == nil {
				break
			}
			if !errors.Is(err, backend.ErrUnavailable) || t.Context().Err() != nil {
				t.Errorf("Publish: %v", err)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		l.mu.Lock()
		l.accepted++
		l.mu.Unlock()
	}
}

func (l *load) receive(t *testing.T, ctx context.Context, s backend.Subscription) {
	for {
		d, err := s.Receive(ctx)
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("Receive: %v", err)
			}
			return
		}
		l.mu.Lock()
		var n int
		if _, err := fmt.Sscan(string(d.Data), &n); err != nil {
			t.Errorf("received %q", d.Data)
		}
		if last, again := l.last[d.Key], l.seen[string(d.Data)]; l.ordered && !again {
			if n != last+loadKeys {
				t.Errorf("key %s: record %d came after %d", d.Key, n, last)
			}
			l.last[d.Key] = n
		}
		l.seen[string(d.Data)] = true
		l.mu.Unlock()
		select {
		case l.progress <- struct{}{}:
		default:
		}
		if err := s.Ack(d); err != nil {
			t.Errorf("Ack: %v", err)
		}
	}
}

func (l *load) count() (accepted, seen int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepted, len(l.seen)
}

// goesOn waits until so many more records were accepted and received.
func (l *load) goesOn(t *testing.T, more int) {
	t.Helper()
	accepted, seen := l.count()
	eventually(t, "records that go through", func() error {
		if a, s := l.count(); a < accepted+more || s < seen+more {
			return fmt.Errorf("ordered %v: %d more accepted and %d received, want %d", l.ordered, a-accepted, s-seen, more)
		}
		return nil
	})
}

// Each node in turn is killed under load and started again; the others carry on
// meanwhile.
func TestALostNodeLosesNoRecord(t *testing.T) {
	t.Parallel()
	c := brokertest.StartCluster(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	var publishers, receivers sync.WaitGroup
	var loads []*load
	for _, ordered := range []bool{false, true} {
		b := connectTo(t, replicated(c.Addresses()))
		l := &load{
			b: b, ordered: ordered, log: makeLog(t, b, ordered, "g"),
			seen: make(map[string]bool), last: make(map[string]int), progress: make(chan struct{}, 1),
		}
		for i := range loadKeys {
			l.last[fmt.Sprint(i)] = i - loadKeys
		}
		sub := subscribe(t, b, l.log, "g", backend.Options{Window: 16})
		publishers.Go(func() { l.publish(t, publishing) })
		receivers.Go(func() { l.receive(t, ctx, sub) })
		loads = append(loads, l)
	}
	for _, node := range c {
		for _, l := range loads {
			l.goesOn(t, 20)
		}
		node.Kill()
		for _, l := range loads {
			l.goesOn(t, 20)
		}
		node.Restart(t)
		for _, l := range loads {
			inSync(t, l.b, l.log)
		}
	}
	stop()
	publishers.Wait()
	for _, l := range loads {
		eventually(t, "all that was accepted", func() error {
			if accepted, seen := l.count(); seen < accepted {
				return fmt.Errorf("%d of %d were received", seen, accepted)
			}
			return nil
		})
		eventually(t, "records", settled(t, l.b, l.log, "g"))
	}
	cancel()
	receivers.Wait()
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
			config := replicated(addresses)
			config.Persist = true // a cluster that has just begun has no leader yet
			b := connect(t, config)
			proxies.Store(b, all)
			return b
		},
		Kill:    func(t testing.TB, b backend.Backend) { each(t, b, (*brokertest.Proxy).Cut) },
		Cut:     func(t testing.TB, b backend.Backend) { each(t, b, (*brokertest.Proxy).Cut) },
		Mend:    func(t testing.TB, b backend.Backend) { each(t, b, (*brokertest.Proxy).Mend) },
		Restart: func(t testing.TB) { c.Restart(t) },
		Facts: backendtest.Facts{
			AckWait: testAckWait, AckFlush: ackFlush, Dedup: true, Patience: 2 * time.Minute,
		},
	}
}
