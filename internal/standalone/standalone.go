package standalone

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/ingress"
	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/colocate"
	"github.com/sidestep-dev/sidestep/internal/budget"
	"github.com/sidestep-dev/sidestep/internal/telemetry"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// Bounds on clients of the admin server.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 5 * time.Minute
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	// shutdownGrace is for what must not take long once draining is over.
	shutdownGrace = 5 * time.Second
)

// process is a running standalone process.
type process struct {
	Config
	set        *manifest.Set
	state      *state
	backend    backend.Backend
	brokers    *brokers // the backend is made of them
	claims     *claimStores
	payloads   *channel.Claims
	sender     *egress.Client
	slipKey    ed25519.PrivateKey // nil: none
	pods       *colocate.Pods     // nil: none
	dispatcher *channel.Dispatcher
	lifecycle  *lifecycle
	ready      readiness
	hops       telemetry.Hops
	registry   *prometheus.Registry
	metrics    *telemetry.Metrics
	bytes      *budget.Budget
	reloads    *prometheus.CounterVec
	listener   net.Listener // ingress
	admin      net.Listener
	addresses  []manifest.Address // of the last set
	printed    []manifest.Address
	files      *watcher // nil: see unseen
	unseen     error    // why edits to the files are not seen
}

// Run serves until ctx ends, and then stops in order. Problems with the files
// are reported, as manifest.Problems, before anything is started or changed.
func Run(ctx context.Context, c Config) (err error) {
	if err := c.Validate(); err != nil {
		return err
	}
	started := collectOften()
	defer started()
	p := &process{Config: c, registry: prometheus.NewRegistry()}
	// Before they are read: no edit falls in between.
	p.files, p.unseen = openWatcher(c.Paths)
	defer p.files.close()
	if p.set, err = manifest.Load(c.Paths); err != nil {
		return err
	}
	if err = p.readSlipKey(); err != nil {
		return err
	}
	var undo closers
	defer func() { err = errors.Join(err, undo.close()) }()
	if err := p.open(ctx, &undo); err != nil {
		return p.unlessStopped(ctx, err)
	}
	return p.serve(ctx, started)
}

// unlessStopped is err, or nil for whatever became of a start that was called
// off: that is no failure.
func (p *process) unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	p.Logger.Info("stopped while starting", "because", err)
	return nil
}

// closers undo what was opened, the last first.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

func (c *closers) close() error {
	var errs []error
	for _, f := range slices.Backward(*c) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// open makes all parts; none of them serves yet.
func (p *process) open(ctx context.Context, undo *closers) (err error) {
	if p.listener, err = net.Listen("tcp", p.Listen); err != nil {
		return fmt.Errorf("listen for events: %w", err)
	}
	undo.add(closed(p.listener.Close))
	if p.admin, err = net.Listen("tcp", p.Admin); err != nil {
		return fmt.Errorf("listen for the admin server: %w", err)
	}
	undo.add(closed(p.admin.Close))
	if p.Data == "" {
		if p.Data, err = DefaultData(); err != nil {
			return err
		}
	}
	unlock, err := lockData(p.Data)
	if err != nil {
		return err
	}
	undo.add(func() error { unlock(); return nil })
	if p.state, err = openState(p.Data); err != nil {
		return err
	}
	p.brokers = newBrokers(p.state, p.Data, p.Logger)
	undo.add(inTime(shutdownGrace, p.brokers.swap.Close))
	if err = p.brokers.open(ctx, &p.set.Config); err != nil {
		return err
	}
	p.backend = p.brokers.swap
	p.lifecycle = &lifecycle{
		backend: p.backend, brokers: p.brokers, logger: p.Logger, state: p.state, discarded: newDiscarded(),
	}
	p.brokers.lifecycle = p.lifecycle
	if p.payloads, err = p.openClaims(ctx, undo); err != nil {
		return err
	}
	p.sender = egress.New(egress.Config{MaxReplyBytes: p.maxBody(), Payloads: p.payloads})
	undo.add(func() error { p.sender.Close(); return nil })
	if err = p.openPods(undo); err != nil {
		return err
	}
	return p.openDispatcher()
}

// inTime gives f a context that ends after d.
func inTime(d time.Duration, f func(context.Context) error) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		return f(ctx)
	}
}

// maxBody is the most bytes of a message that has to be in memory as a whole: one
// in structured mode.
func (p *process) maxBody() int { return int(p.set.Config.ClaimCheck.MaxStructuredBytes) }

// closed passes over the error of what was closed before, in order.
func closed(f func() error) func() error {
	return func() error {
		if err := f(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

func (p *process) openDispatcher() (err error) {
	d := p.set.Config.Dispatch
	total := d.ByteBudget
	if total == 0 {
		total = channel.DefaultBudget
	}
	p.bytes = budget.New(total)
	p.metrics = telemetry.New(p.registry, &p.hops)
	var pods channel.Pods // not one that is a nil *colocate.Pods
	if p.pods != nil {
		pods = p.pods
	}
	p.dispatcher, err = channel.New(channel.Config{
		Pods:            pods,
		Backend:         p.backend,
		Sender:          p.sender,
		Key:             p.state.Key,
		Claims:          p.payloads,
		Budget:          p.bytes,
		Window:          d.MaxInFlight,
		CheckpointAfter: d.CheckpointAfter,
		Observer:        p.metrics,
		Logger:          p.Logger,
	})
	if err != nil {
		return err
	}
	telemetry.Gauges(p.registry, p.dispatcher, p.bytes)
	p.reloads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sidestep_reloads_total",
		Help: "Times that the files were read again, by result.",
	}, []string{"result"})
	for _, result := range []string{reloadApplied, reloadFailed} {
		p.reloads.WithLabelValues(result) // from 0 on, so that an increase is seen
	}
	p.lifecycle.dispatcher = p.dispatcher
	p.registry.MustRegister(p.reloads, p.lifecycle.discarded)
	p.brokers.gauges(p.registry)
	return nil
}

// serve runs all parts until ctx ends or one of them fails. It calls started when
// they run.
func (p *process) serve(ctx context.Context, started func()) error {
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var running sync.WaitGroup
	defer running.Wait()
	failed := make(chan error, 2)

	events := ingress.NewServer(p.ingress(), p.Logger)
	events.HandleLinks(claimcheck.LinkPath, p.claims.room.Handler())
	admin := p.server(adminHandler(&p.ready, p.dispatcher, p.registry, &p.hops))
	admin.BaseContext = func(net.Listener) context.Context { return work }
	start := func(s interface{ Serve(net.Listener) error }, l net.Listener) {
		running.Go(func() {
			if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve on %s: %w", l.Addr(), err)
			}
		})
	}
	start(admin, p.admin)
	if err := p.reload(ctx, p.set); err != nil {
		return errors.Join(p.unlessStopped(ctx, err), p.stop(nil, admin, stop))
	}
	p.set = &manifest.Set{Config: p.set.Config} // the rest is in the table
	start(events, p.listener)
	running.Go(func() { p.lifecycle.run(work) })
	running.Go(func() { p.brokers.run(work) })
	running.Go(func() { p.claims.run(work, p.set.Config.ClaimCheck.TTL, p.lifecycle.oldest) })
	running.Go(func() { trim(work) })
	started()
	p.ready.ready.Store(true)
	p.Logger.Info("serving", "events", p.listener.Addr().String(), "admin", p.admin.Addr().String(),
		"data", p.Data, "backend", p.set.Config.Backend)
	// Only now: who reads an address may use it at once.
	if err := p.announce(); err != nil {
		return errors.Join(err, p.stop(events, admin, stop))
	}
	if p.unseen != nil {
		p.Logger.Error("edits to the files will not be seen", "error", p.unseen)
	} else {
		running.Go(func() { p.files.run(work, p.Logger, func() { p.changed(work) }) })
	}

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	return errors.Join(err, p.stop(events, admin, stop))
}

func (p *process) ingress() *ingress.Handler {
	return &ingress.Handler{
		Dispatcher:    p.dispatcher,
		Budget:        p.bytes,
		MaxEventBytes: p.backend.Limits().MaxRecordBytes,
		MaxBodyBytes:  p.maxBody(),
		Payloads:      p.payloads,
		Observe: func(c *channel.Channel, status, bytes int, took time.Duration) {
			var namespace, name string // empty for what is no channel
			if c != nil {
				namespace, name = c.Namespace, c.Name
			}
			p.metrics.Ingress(namespace, name, status, int64(bytes), took)
		},
	}
}

func (p *process) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(p.Logger.Handler(), slog.LevelDebug),
	}
}

// stop ends what serve began, in order: unready; no more events from outside;
// what is in flight, up to Drain; the rest.
func (p *process) stop(events *ingress.Server, admin *http.Server, stop context.CancelCauseFunc) error {
	p.ready.stopping.Store(true)
	p.Logger.Info("stopping", "drain", p.Drain)
	ctx, cancel := context.WithTimeout(context.Background(), p.Drain)
	defer cancel()
	if events != nil {
		if err := events.Shutdown(ctx); err != nil {
			p.Logger.Warn("not all requests could be answered", "error", err)
		}
	}
	if err := p.dispatcher.Close(ctx); err != nil {
		// Nothing is lost: it comes back with the next start.
		p.Logger.Warn("not all that was in flight could be finished", "error", err)
	}
	stop(channel.ErrStopped)
	ctx, cancel = context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	if err := admin.Shutdown(ctx); err != nil {
		admin.Close()
	}
	return nil
}
