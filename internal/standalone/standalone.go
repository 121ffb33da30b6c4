package standalone

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"net/http/pprof"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/internal/claims"
	"github.com/sidestep-dev/sidestep/internal/replica"
	"github.com/sidestep-dev/sidestep/internal/telemetry"
	"github.com/sidestep-dev/sidestep/internal/tracing"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// shutdownGrace is for what must not take long once draining is over.
const shutdownGrace = 5 * time.Second

// process is a running standalone process: a replica that files feed.
type process struct {
	Config
	replica   *replica.Replica
	set       *manifest.Set
	state     *state
	brokers   *brokers
	claims    *claims.Stores
	slipKey   ed25519.PrivateKey // nil: none
	lifecycle *lifecycle
	tracer    *tracing.Tracer // nil: none
	reloads   *prometheus.CounterVec
	addresses []manifest.Address // of the last set
	printed   []manifest.Address
	files     *watcher // nil: see unseen
	unseen    error    // why edits to the files are not seen
}

// Run serves until ctx ends, and then stops in order. Problems with the files
// are reported, as manifest.Problems, before anything is started or changed.
func Run(ctx context.Context, c Config) (err error) {
	if err := c.Validate(); err != nil {
		return err
	}
	started := collectOften()
	defer started()
	p := &process{Config: c}
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
		if ctx.Err() == nil {
			return err
		}
		// Whatever became of a start that was called off is no failure.
		p.Logger.Info("stopped while starting", "because", err)
		return nil
	}
	return p.replica.Serve(ctx, p.life(started))
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
	r, err := replica.New(replica.Config{Listen: p.Listen, Admin: p.Admin, Drain: p.Drain, Logger: p.Logger})
	if err != nil {
		return err
	}
	p.replica = r
	opened := false
	undo.add(func() error {
		if opened {
			return nil
		}
		return r.Close()
	})
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
	if p.Key != "" {
		if p.state.shared, err = sharedKey(p.Key); err != nil {
			return err
		}
	}
	p.brokers = newBrokers(p.state, openEmbedded(p.Data), p.Logger)
	undo.add(inTime(shutdownGrace, p.brokers.swap.Close))
	if err = p.brokers.open(ctx, &p.set.Config); err != nil {
		return err
	}
	p.lifecycle = &lifecycle{
		backend: p.brokers.swap, brokers: p.brokers, logger: p.Logger, state: p.state, discarded: telemetry.NewDiscarded(),
	}
	p.brokers.lifecycle = p.lifecycle
	p.Logger.Info("opened the backends", "data", p.Data, "backend", p.set.Config.Backend)
	payloads, err := p.openClaims(ctx, undo)
	if err != nil {
		return err
	}
	if err = p.openTracer(ctx, undo); err != nil {
		return err
	}
	// Closed before what it works with.
	opened = true
	undo.add(r.Close)
	return p.openEngine(payloads)
}

// inTime gives f a context that ends after d.
func inTime(d time.Duration, f func(context.Context) error) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		return f(ctx)
	}
}

// base is the URL of the ingress server.
func (p *process) base() string {
	events, _, _ := p.replica.Addresses()
	return "http://" + events
}

func (p *process) openTracer(ctx context.Context, undo *closers) (err error) {
	t := p.set.Config.Tracing
	c := tracing.Config{Protocol: t.Protocol, Endpoint: t.Endpoint, SamplingRate: t.SamplingRate}.WithEnvironment(os.Getenv)
	if p.tracer, err = tracing.Open(ctx, c, tracing.Service, p.Logger); err != nil {
		return err
	}
	undo.add(inTime(shutdownGrace, p.tracer.Shutdown))
	return nil
}

func (p *process) openEngine(payloads *channel.Claims) error {
	c := &p.set.Config
	err := p.replica.Open(replica.Engine{
		Backend: p.brokers.swap, Key: p.state.key(),
		Claims: payloads, Links: p.claims.Room().Handler(),
		SlipKey: p.slipKey, Routing: c.Dispatch.Routing,
		MaxStructuredBytes: int(c.ClaimCheck.MaxStructuredBytes),
		Window:             c.Dispatch.MaxInFlight,
		ByteBudget:         c.Dispatch.ByteBudget,
		CheckpointAfter:    c.Dispatch.CheckpointAfter,
		Tracer:             p.tracer.Engine(),
	})
	if err != nil {
		return err
	}
	p.reloads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sidestep_reloads_total",
		Help: "Times that the files were read again, by result.",
	}, []string{"result"})
	for _, result := range []string{reloadApplied, reloadFailed} {
		p.reloads.WithLabelValues(result) // from 0 on, so that an increase is seen
	}
	p.lifecycle.dispatcher = p.replica.Dispatcher
	p.replica.Registry.MustRegister(p.reloads, p.lifecycle.discarded)
	p.brokers.gauges(p.replica.Registry)
	return nil
}

// life is what goes on beside the servers. It calls started when all subscriptions
// are open.
func (p *process) life(started func()) replica.Life {
	life := replica.Life{
		Begin: func(ctx context.Context) error {
			if err := p.reload(ctx, p.set); err != nil {
				return err
			}
			p.set = &manifest.Set{Config: p.set.Config} // the rest is in the table
			started()
			return nil
		},
		Run: []func(context.Context){
			p.lifecycle.run, p.brokers.run, trim,
			func(ctx context.Context) { p.claims.Run(ctx, p.lifecycle.oldest) },
		},
		// Only then: who reads an address may use it at once.
		Begun:    p.announce,
		Ready:    p.replica.Dispatcher.Err,
		Handlers: profiles(),
	}
	if p.unseen != nil {
		p.Logger.Error("edits to the files will not be seen", "error", p.unseen)
	} else {
		life.Run = append(life.Run, func(ctx context.Context) { p.files.run(ctx, p.Logger, func() { p.changed(ctx) }) })
	}
	return life
}

// profiles are for whoever can reach the admin server of a process of one's own.
func profiles() map[string]http.Handler {
	return map[string]http.Handler{
		"/debug/pprof/":        http.HandlerFunc(pprof.Index),
		"/debug/pprof/cmdline": http.HandlerFunc(pprof.Cmdline),
		"/debug/pprof/profile": http.HandlerFunc(pprof.Profile),
		"/debug/pprof/symbol":  http.HandlerFunc(pprof.Symbol),
		"/debug/pprof/trace":   http.HandlerFunc(pprof.Trace),
	}
}
