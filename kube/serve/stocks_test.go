package serve

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
	"github.com/sidestep-dev/sidestep/channel/backend/swapbackend"
	brokers "github.com/sidestep-dev/sidestep/internal/broker"
	"github.com/sidestep-dev/sidestep/kube/broker"
)

// inMemory are servers, each a store in memory.
type inMemory struct{}

func (inMemory) Open(context.Context, brokers.Spec, *slog.Logger) (backend.Backend, error) {
	return membackend.NewStore(membackend.Options{}).Connect(), nil
}
func (inMemory) Renew(context.Context, brokers.Spec) error { return nil }
func (inMemory) Dial() (*nats.Conn, error)                 { return nil, errors.New("there is no JetStream here") }

func (inMemory) CompleteClaimStore(_ context.Context, url, _ string) (string, error) {
	return url, nil
}

// stocksOn go by a state with two backends.
func stocksOn(t *testing.T) (*stocks, map[string]string) {
	t.Helper()
	specs := map[string]brokers.Spec{"embedded": {Kind: "embedded"}, "nats": {Kind: "nats"}}
	ids := make(map[string]string)
	state := &broker.State{Version: 1, Backends: make(map[string]brokers.Spec)}
	for kind, spec := range specs {
		ids[kind] = spec.ID()
		state.Backends[spec.ID()] = spec
	}
	state.Homes.Default = ids["embedded"]
	s := newStocks(nil, "n", inMemory{}, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = s.close(context.Background()) })
	s.use(t.Context(), state, "1")
	return s, ids
}

func TestMetricsTellHowManyLogsMove(t *testing.T) {
	s, id := stocksOn(t)
	registry := prometheus.NewRegistry()
	s.gauges(registry)
	want := func(moving string) {
		t.Helper()
		err := testutil.GatherAndCompare(registry, strings.NewReader(
			"# HELP sidestep_logs_moving Logs on their way from one backend to another.\n"+
				"# TYPE sidestep_logs_moving gauge\nsidestep_logs_moving "+moving+"\n"), "sidestep_logs_moving")
		if err != nil {
			t.Error(err)
		}
	}
	want("0")
	if err := s.pool.Swap.Set("ns/log", swapbackend.Place{Home: id["embedded"]}); err != nil {
		t.Fatal(err)
	}
	want("0")
	moving := s.now().Clone()
	moving.Homes.Default = id["nats"]
	s.use(t.Context(), moving, "2")
	want("1")
	if err := s.pool.Swap.Set("ns/log", swapbackend.Place{Home: id["nats"]}); err != nil {
		t.Fatal(err)
	}
	want("0")
}

// Who publishes to a log whose place is not known asks for its home, and holds a lock
// meanwhile that the roll call wants, too.
func TestTheRollCallHoldsUpNobodyWhoPublishes(t *testing.T) {
	s, _ := stocksOn(t)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for range 20000 {
				_ = s.Backends()
			}
		})
		all.Go(func() {
			for range 20000 {
				_ = s.pool.Swap.Room("ns/unknown")
				_ = s.pool.Swap.Publish(t.Context(), "ns/unknown", &backend.Record{})
				s.pool.Swap.Leave("ns/unknown")
			}
		})
	}
	all.Wait()
}
