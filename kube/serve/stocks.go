package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/swapbackend"
	"github.com/sidestep-dev/sidestep/claimcheck"
	brokers "github.com/sidestep-dev/sidestep/internal/broker"
	"github.com/sidestep-dev/sidestep/internal/claims"
	"github.com/sidestep-dev/sidestep/internal/rollcall"
	"github.com/sidestep-dev/sidestep/internal/telemetry"
	"github.com/sidestep-dev/sidestep/kube/broker"
)

const (
	// statePoll is how often the state is looked at, in memory.
	statePoll = 200 * time.Millisecond
	// openAgain is the pause before what could not be opened is tried again, and
	// formerAgain before a former payload store is.
	openAgain   = 5 * time.Second
	formerAgain = time.Minute
)

// Servers opens what config-sidestep names; *broker.Servers is one.
type Servers interface {
	Open(ctx context.Context, s brokers.Spec, logger *slog.Logger) (backend.Backend, error)
	Renew(ctx context.Context, s brokers.Spec) error
	Dial() (*nats.Conn, error)
	CompleteClaimStore(ctx context.Context, url, secret string) (string, error)
}

// stocks are the backends and the payload stores that the state names. They follow it;
// who decides is the controller. It is what a Roll asks of them.
type stocks struct {
	reader    client.Reader
	namespace string
	servers   Servers
	pool      *brokers.Pool
	stores    *claims.Stores
	logger    *slog.Logger

	mu      sync.Mutex // guards what follows
	state   *broker.State
	version string            // of the object that it is from
	failed  map[string]string // why backends cannot be used, by ID
}

var _ rollcall.Stocks = (*stocks)(nil)

func newStocks(reader client.Reader, namespace string, servers Servers, logger *slog.Logger) *stocks {
	s := &stocks{
		reader: reader, namespace: namespace, servers: servers, logger: logger,
		state: new(broker.State), failed: make(map[string]string),
	}
	swap := swapbackend.New(swapbackend.Config{Home: func(log string) string { return s.now().Homes.OfLog(log) }, Logger: logger})
	s.pool = brokers.NewPool(swap, servers.Open, logger)
	return s
}

// now is the state that is gone by.
func (s *stocks) now() *broker.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// read is what the controller has written, and the version of the object.
func (s *stocks) read(ctx context.Context) (*broker.State, string, error) {
	cm := new(corev1.ConfigMap)
	err := s.reader.Get(ctx, types.NamespacedName{Namespace: s.namespace, Name: broker.StateName}, cm)
	if client.IgnoreNotFound(err) != nil {
		return nil, "", fmt.Errorf("read ConfigMap %s: %w", broker.StateName, err)
	}
	if apierrors.IsNotFound(err) {
		cm = new(corev1.ConfigMap)
	}
	state, err := broker.ReadState(cm)
	return state, string(cm.UID) + cm.ResourceVersion, err
}

// open waits until there is a state, the backend that channels belong on unless their
// namespace says otherwise, and the payload store. What else there is, is tried once: a
// namespace's broker that is away keeps nobody from the others.
func (s *stocks) open(ctx context.Context, keys *claimcheck.Keys, observer claimcheck.Observer) error {
	for told := ""; ; {
		err := s.tryOpen(ctx, keys, observer)
		if err == nil {
			return nil
		}
		if err.Error() != told {
			told = err.Error()
			s.logger.Warn("not ready yet; trying again", "error", err)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return err
		}
	}
}

var errNoState = errors.New("nothing is in effect: the controller has yet to look at config-sidestep, or it cannot be used")

func (s *stocks) tryOpen(ctx context.Context, keys *claimcheck.Keys, observer claimcheck.Observer) error {
	state, version, err := s.read(ctx)
	if err != nil {
		return err
	}
	if state.Empty() || len(state.ClaimStores) == 0 {
		return errNoState
	}
	s.use(ctx, state, version)
	if home := state.Homes.Default; s.pool.Swap.Member(home) == nil {
		return fmt.Errorf("backend %s: %s", home, s.Backends()[home])
	}
	if s.stores != nil {
		return nil
	}
	s.stores, err = claims.Open(ctx, state.ClaimStores[0], claims.Config{
		Ledger: ledger{s}, Keys: keys, TTL: state.Config.ClaimCheck.TTL, Observer: observer, Dial: s.servers.Dial, Logger: s.logger,
		Complete: func(ctx context.Context, url string) (string, error) {
			return s.servers.CompleteClaimStore(ctx, url, s.now().ClaimSecrets[url])
		},
	})
	return err
}

// run follows the state until ctx ends. changed is called when other backends can be
// used than before.
func (s *stocks) run(ctx context.Context, changed func()) {
	for tried := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(statePoll):
		}
		state, version, err := s.read(ctx)
		if err != nil {
			s.note(broker.StateName, err)
			continue
		}
		s.mu.Lock()
		same, pause := version == s.version, formerAgain
		if len(s.failed) > 0 {
			pause = openAgain
		}
		s.mu.Unlock()
		if state.Empty() || same && time.Since(tried) < pause {
			continue
		}
		s.use(ctx, state, version)
		s.note("payload store", s.stores.Follow(ctx))
		s.note(broker.StateName, nil)
		tried = time.Now()
		if !same || pause == openAgain {
			changed()
		}
	}
}

// use goes by a state, as far as its backends can be opened.
func (s *stocks) use(ctx context.Context, state *broker.State, version string) {
	s.mu.Lock()
	s.state, s.version = state, version
	s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(state.Backends)) {
		spec := state.Backends[id]
		err := s.pool.Add(ctx, spec, state.Config.ClaimCheck.Threshold)
		if err == nil {
			err = s.servers.Renew(ctx, spec)
		}
		s.note(id, err)
	}
	s.pool.Keep(ctx, func(id string) bool { _, used := state.Backends[id]; return used })
}

// note why a backend, or what else is called so, cannot be used.
func (s *stocks) note(id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		delete(s.failed, id)
	case s.failed[id] != err.Error():
		s.failed[id] = err.Error()
		s.logger.Error("what the state names cannot be used; trying again", "what", id, "error", err)
	}
}

// Backends implements rollcall.Stocks.
func (s *stocks) Backends() map[string]string {
	s.mu.Lock()
	all := make(map[string]string, len(s.state.Backends))
	for id := range s.state.Backends {
		all[id] = s.failed[id]
	}
	s.mu.Unlock() // whoever holds the backends' lock may be about to ask for the state
	for id, why := range all {
		if why == "" && s.pool.Swap.Member(id) == nil {
			all[id] = "it is being opened"
		}
	}
	return all
}

// Storing implements rollcall.Stocks.
func (s *stocks) Storing() []string { return s.stores.Room().Storing() }

// Place implements rollcall.Stocks.
func (s *stocks) Place(log string) (rollcall.Place, bool) {
	p := s.pool.Swap.Place(log)
	return rollcall.Place{Home: p.Home, Next: p.Next, Former: p.Former}, s.pool.Swap.Joined(log)
}

// gauges registers what is read when asked for.
func (s *stocks) gauges(reg prometheus.Registerer) {
	telemetry.Backends(reg, s.pool.Swap.Moving, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.failed) > 0
	})
}

// payloads are what the engine keeps payloads with; base is where links are served.
func (s *stocks) payloads(base string) (*channel.Claims, error) {
	c := s.now().Config.ClaimCheck
	return channel.NewClaims(channel.ClaimsConfig{
		Room: s.stores.Room(), Threshold: int(c.Threshold), MaxEventBytes: c.MaxEventBytes, LinkBase: base, LinkTTL: c.LinkTTL,
	})
}

// close after whoever uses them has ended.
func (s *stocks) close(ctx context.Context) error {
	var err error
	if s.stores != nil {
		err = s.stores.Close()
	}
	return errors.Join(err, s.pool.Swap.Close(ctx))
}

// ledger is the list of payload stores in the state, which the controller writes.
type ledger struct{ s *stocks }

// Stores implements claims.Ledger.
func (l ledger) Stores() []string { return slices.Clone(l.s.now().ClaimStores) }

var errNotOurs = errors.New("the controller alone decides where payloads are")

// SetStores implements claims.Ledger.
func (l ledger) SetStores([]string) error { return errNotOurs }
