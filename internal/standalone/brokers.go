package standalone

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/swapbackend"
	"github.com/sidestep-dev/sidestep/internal/broker"
	"github.com/sidestep-dev/sidestep/internal/telemetry"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// How logs move from one backend to another.
const (
	// movePoll is how often logs that move are looked at.
	movePoll = 50 * time.Millisecond
	// moveLimit bounds the logs that take a step at once.
	moveLimit = 256
	// openAgain is the pause before a backend is opened again that could not be.
	openAgain = 5 * time.Second
)

// brokers are the backends that logs are on, and what moves them.
//
//	config-sidestep: backend, namespaces --use--> open --> active: where logs are wanted
//	                                                |          |
//	                                             failed        v
//	                                             (again)   run: a step for each log that is elsewhere
//	                                                           |  write down, then swapbackend.Set
//	                                                           v
//	                                                       a backend without logs is closed
type brokers struct {
	swap      *swapbackend.Backend
	pool      *broker.Pool
	state     *state
	lifecycle *lifecycle // its lock guards state
	logger    *slog.Logger

	// wanted is what the files say, active the last of it whose backends are
	// all open, and homes where logs belong by that.
	wanted, active atomic.Pointer[manifest.Config]
	homes          atomic.Pointer[broker.Homes]
	opening        sync.Mutex    // held while backends are opened or closed
	wake           chan struct{} // one place
	unreachable    atomic.Bool
	// pinned: a backend's server has payloads too; it stays open.
	pinned atomic.Bool
}

func newBrokers(s *state, embedded broker.Open, logger *slog.Logger) *brokers {
	b := &brokers{state: s, logger: logger, wake: make(chan struct{}, 1)}
	b.swap = swapbackend.New(swapbackend.Config{Home: func(log string) string { return b.homes.Load().OfLog(log) }, Logger: logger})
	b.pool = broker.NewPool(b.swap, broker.Connect(embedded, b.instance), logger)
	return b
}

// open opens the backends that the files name, and those that logs are on since
// before.
func (b *brokers) open(ctx context.Context, c *manifest.Config) error {
	b.wanted.Store(c)
	if err := b.openAll(ctx, c); err != nil {
		return err
	}
	b.activate(c)
	for log, p := range b.state.Places {
		for _, id := range p.All() {
			if b.swap.Member(id) != nil {
				continue
			}
			if err := b.pool.Add(ctx, b.state.Brokers[id], c.ClaimCheck.Threshold); err != nil {
				return fmt.Errorf("it still has the records of channel %s: %w", log, err)
			}
		}
		if err := b.swap.Set(log, p); err != nil {
			return err
		}
	}
	return nil
}

// instance names this process to a backend, and none else: with the data goes the key.
func (b *brokers) instance(id string) string {
	sum := sha256.Sum256(append([]byte("instance\x00"+id+"\x00"), b.state.Key...))
	return hex.EncodeToString(sum[:8])
}

// openAll opens what a configuration uses and is not open yet.
func (b *brokers) openAll(ctx context.Context, c *manifest.Config) error {
	b.opening.Lock()
	defer b.opening.Unlock()
	for _, kind := range c.Backends() {
		if err := b.pool.Add(ctx, broker.SpecOf(c, kind), c.ClaimCheck.Threshold); err != nil {
			return err
		}
	}
	return b.pool.Fits(c.ClaimCheck.Threshold)
}

func (b *brokers) activate(c *manifest.Config) {
	homes := broker.HomesOf(c)
	b.homes.Store(&homes)
	b.active.Store(c)
}

// dial makes one more connection to a JetStream server that is a backend now.
func (b *brokers) dial(name string) (*nats.Conn, error) {
	for _, kind := range []string{b.active.Load().Backend, manifest.BackendNATS, manifest.BackendEmbedded} {
		if c, ok, err := b.pool.Dial(broker.SpecOf(b.active.Load(), kind).ID(), name); ok {
			b.pinned.Store(true)
			return c, err
		}
	}
	return nil, errors.New("a nats:// store needs the parameter url, as the backend is no JetStream")
}

// use has logs go to the backends that the files name from now on. An error says that
// they stay where they are until these can be reached; that is tried again.
func (b *brokers) use(ctx context.Context, c *manifest.Config) error {
	b.wanted.Store(c)
	err := b.openAll(ctx, c)
	b.unreachable.Store(err != nil)
	if err == nil {
		b.activate(c)
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return err
}

// place writes down where the logs of a table are, before they are made. It is called
// with the lifecycle's lock held, and before the state is saved.
func (b *brokers) place(t *channel.Table) error {
	if b.state.Places == nil {
		b.state.Places = make(map[string]swapbackend.Place)
	}
	for _, c := range t.Channels {
		log := c.Log().Name
		if _, known := b.state.Places[log]; known {
			continue
		}
		p := swapbackend.Place{Home: b.homes.Load().Of(c.Namespace), Ordered: c.Ordered}
		if err := b.swap.Set(log, p); err != nil {
			return err
		}
		b.state.Places[log] = p
	}
	b.describe()
	return nil
}

// describe notes how the backends are reached that logs are on.
func (b *brokers) describe() {
	specs := broker.Specs(b.active.Load())
	for _, p := range b.state.Places {
		for _, id := range p.All() {
			if _, known := specs[id]; !known {
				specs[id] = b.state.Brokers[id]
			}
		}
	}
	b.state.Brokers = specs
}

// run moves logs to where they are wanted, until ctx ends.
func (b *brokers) run(ctx context.Context) {
	opened := time.Now()
	for {
		if b.wanted.Load() != b.active.Load() && time.Since(opened) >= openAgain {
			opened = time.Now()
			if err := b.use(ctx, b.wanted.Load()); err != nil {
				b.logger.Error("a backend cannot be used; all stays where it is, and it is tried again", "pause", openAgain, "error", err)
			}
		}
		pause := time.Second
		if b.round(ctx) {
			pause = movePoll
		}
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		case <-time.After(pause):
		}
	}
}

// move is a log that is not where it is wanted.
type move struct {
	log    backend.Log
	groups []string
	to     string
	next   swapbackend.Place
	err    error
}

// round has each log that is not where it is wanted take a step, and tells whether
// there are any.
func (b *brokers) round(ctx context.Context) bool {
	moves := b.moves()
	if len(moves) == 0 {
		b.closeUnused(ctx)
		return false
	}
	var g errgroup.Group
	g.SetLimit(moveLimit)
	for _, m := range moves {
		g.Go(func() error {
			if m.next = b.swap.Place(m.log.Name); b.swap.Joined(m.log.Name) {
				m.next, m.err = b.swap.Step(ctx, m.log, m.groups, m.to)
			}
			return nil
		})
	}
	_ = g.Wait()
	if err := b.settle(ctx, moves); err != nil && ctx.Err() == nil {
		b.logger.Error("moving logs between backends; trying again", "error", err)
	}
	return true
}

func (b *brokers) moves() []*move {
	homes := b.homes.Load()
	b.lifecycle.mu.Lock()
	defer b.lifecycle.mu.Unlock()
	var moves []*move
	for _, c := range b.state.Table.Channels {
		l := c.Log()
		p, to := b.state.Places[l.Name], homes.Of(c.Namespace)
		if p.Home == "" || p.Home == to && !p.Moving() {
			continue
		}
		m := &move{log: l, to: to}
		for _, s := range c.Subscriptions {
			m.groups = append(m.groups, s.UID)
		}
		moves = append(moves, m)
	}
	return moves
}

// settle writes down where the logs are after their steps, and then has them be there.
func (b *brokers) settle(ctx context.Context, moves []*move) error {
	b.lifecycle.mu.Lock()
	defer b.lifecycle.mu.Unlock()
	var errs []error
	var changed []*move
	for _, m := range moves {
		if m.err != nil {
			errs = append(errs, m.err)
			continue
		}
		old, known := b.state.Places[m.log.Name]
		switch {
		case !known:
			// The channel was removed meanwhile; the step may have made a log.
			errs = append(errs, b.swap.Forget(ctx, m.log.Name, m.to))
		case !old.Equal(m.next):
			b.state.Places[m.log.Name] = m.next
			changed = append(changed, m)
		}
	}
	if len(changed) == 0 {
		return errors.Join(errs...)
	}
	b.describe()
	if err := b.state.save(); err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, m := range changed {
		errs = append(errs, b.swap.Set(m.log.Name, m.next))
		if !m.next.Moving() {
			b.logger.Info("a log has moved", "log", m.log.Name, "backend", m.next.Home)
		}
	}
	return errors.Join(errs...)
}

// closeUnused closes the backends that no log is on, and that none is wanted on.
func (b *brokers) closeUnused(ctx context.Context) {
	c, ids := b.active.Load(), b.homes.Load().IDs()
	if b.wanted.Load() != c || b.pinned.Load() {
		return
	}
	b.opening.Lock()
	defer b.opening.Unlock()
	b.pool.Keep(ctx, func(id string) bool { return slices.Contains(ids, id) })
}

// gauges registers what is read when asked for.
func (b *brokers) gauges(reg prometheus.Registerer) {
	telemetry.Backends(reg, b.swap.Moving, b.unreachable.Load)
}
