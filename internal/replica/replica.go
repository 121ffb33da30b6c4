package replica

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/channel/ingress"
	"github.com/sidestep-dev/sidestep/internal/budget"
	"github.com/sidestep-dev/sidestep/internal/telemetry"
)

// Bounds on clients of the servers that are net/http's.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 5 * time.Minute
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	// shutdownGrace is for what must not take long once draining is over.
	shutdownGrace = 5 * time.Second
)

// Config of a Replica. Backend, Key, Listen and Admin are required.
type Config struct {
	// Backend stays open: it is the caller's.
	Backend backend.Backend
	// Key signs internal headers: the same for all replicas.
	Key []byte
	// Egress of the client that calls steps. MaxReplyBytes is set by the
	// backend's limit.
	Egress egress.Config
	// Window, ByteBudget and CheckpointAfter are channel.Config's and
	// budget.New's; 0 is their default.
	Window          int
	ByteBudget      int64
	CheckpointAfter time.Duration
	// Tracer makes a span of each hop; nil: there are none.
	Tracer channel.Tracer
	// Listen, ListenTLS and Admin are addresses of the servers; ListenTLS ""
	// for none, which takes TLS.
	Listen, ListenTLS, Admin string
	TLS                      *tls.Config
	// Admit and AdmitTLS are ingress.Handler.Admit of the two.
	Admit, AdmitTLS Admission
	// Linger is how long a replica serves on after it was told to stop; Drain
	// how long what is in flight may take after that.
	Linger, Drain time.Duration
	Logger        *slog.Logger
}

// Admission is what ingress.Handler.Admit is.
type Admission = func(context.Context, *channel.Channel, string) (func(*event.Event) error, error)

// Validate tells what is wrong with c, all of it.
func (c *Config) Validate() error {
	var errs []error
	if c.Backend == nil {
		errs = append(errs, errors.New("no backend"))
	}
	if c.Listen == "" || c.Admin == "" {
		errs = append(errs, errors.New("an address to listen on is empty: want host:port"))
	}
	if c.ListenTLS != "" && c.TLS == nil {
		errs = append(errs, errors.New("an address for TLS, and no certificate"))
	}
	if c.Linger < 0 || c.Drain < 0 {
		errs = append(errs, fmt.Errorf("linger is %v and drain %v: want 0s or more", c.Linger, c.Drain))
	}
	return errors.Join(errs...)
}

// Replica is a dispatcher with its servers.
type Replica struct {
	Config
	Dispatcher *channel.Dispatcher
	Registry   *prometheus.Registry

	hops     telemetry.Hops
	metrics  *telemetry.Metrics
	bytes    *budget.Budget
	sender   *egress.Client
	stopping atomic.Bool

	events, eventsTLS, adminListener net.Listener
}

// New makes a Replica, with an empty table. Nothing serves yet, but its addresses
// are taken. Close frees it.
func New(c Config) (*Replica, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configure replica: %w", err)
	}
	r := &Replica{Config: c, Registry: prometheus.NewRegistry()}
	if err := r.open(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Replica) open() (err error) {
	for _, l := range []struct {
		what, address string
		into          *net.Listener
	}{
		{"events", r.Listen, &r.events},
		{"events over TLS", r.ListenTLS, &r.eventsTLS},
		{"the admin server", r.Admin, &r.adminListener},
	} {
		if l.address == "" {
			continue
		}
		if *l.into, err = net.Listen("tcp", l.address); err != nil {
			return fmt.Errorf("listen for %s: %w", l.what, err)
		}
	}
	c := r.Egress
	c.MaxReplyBytes = r.Backend.Limits().MaxRecordBytes
	r.sender = egress.New(c)
	r.bytes = budget.New(cmp.Or(r.ByteBudget, channel.DefaultBudget))
	r.metrics = telemetry.New(r.Registry, &r.hops)
	r.Dispatcher, err = channel.New(channel.Config{
		Backend:         r.Backend,
		Sender:          r.sender,
		Key:             r.Key,
		Budget:          r.bytes,
		Window:          r.Window,
		CheckpointAfter: r.CheckpointAfter,
		Observer:        r.metrics,
		Tracer:          r.Tracer,
		Logger:          r.Logger,
	})
	if err != nil {
		return err
	}
	telemetry.Gauges(r.Registry, r.Dispatcher, r.bytes)
	return nil
}

// Close frees what New made, after Serve has returned.
func (r *Replica) Close() error {
	var errs []error
	for _, l := range []net.Listener{r.events, r.eventsTLS, r.adminListener} {
		if l != nil {
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if r.Dispatcher != nil {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
		defer cancel()
		errs = append(errs, r.Dispatcher.Close(ctx))
	}
	if r.sender != nil {
		r.sender.Close()
	}
	return errors.Join(errs...)
}

// Forget has what is trusted of https targets looked at anew.
func (r *Replica) Forget() { r.sender.Forget() }

// Addresses of the servers for events (TLS "" if there is none) and of the admin
// server.
func (r *Replica) Addresses() (events, eventsTLS, admin string) {
	if r.eventsTLS != nil {
		eventsTLS = r.eventsTLS.Addr().String()
	}
	return r.events.Addr().String(), eventsTLS, r.adminListener.Addr().String()
}

// Serve runs the servers until ctx ends or one of them fails, and then stops in
// order. ready says why the replica is not ready, or nil; add adds to the admin
// server.
func (r *Replica) Serve(ctx context.Context, ready func() error, add map[string]http.Handler) error {
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var running sync.WaitGroup
	defer running.Wait()
	failed := make(chan error, 3)
	start := func(serve func(net.Listener) error, l net.Listener) {
		running.Go(func() {
			if err := serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve on %s: %w", l.Addr(), err)
			}
		})
	}
	events := ingress.NewServer(r.handler(r.Admit), r.Logger)
	admin := r.server(r.adminHandler(ready, add))
	admin.BaseContext = func(net.Listener) context.Context { return work }
	servers := []interface{ Shutdown(context.Context) error }{events}
	start(admin.Serve, r.adminListener)
	start(events.Serve, r.events)
	if r.eventsTLS != nil {
		s := r.server(r.handler(r.AdmitTLS))
		s.TLSConfig = r.TLS
		servers = append(servers, s)
		start(func(l net.Listener) error { return s.ServeTLS(l, "", "") }, r.eventsTLS)
	}
	at, atTLS, adminAt := r.Addresses()
	r.Logger.Info("serving", "events", at, "tls", atTLS, "admin", adminAt)

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	r.stop(servers)
	stop(channel.ErrStopped)
	ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	if admin.Shutdown(ctx) != nil {
		admin.Close()
	}
	return err
}

func (r *Replica) handler(admit Admission) *ingress.Handler {
	return &ingress.Handler{
		Dispatcher:    r.Dispatcher,
		Budget:        r.bytes,
		MaxEventBytes: r.Backend.Limits().MaxRecordBytes,
		Admit:         admit,
		Observe: func(c *channel.Channel, status, bytes int, took time.Duration) {
			var namespace, name string // empty for what is no channel
			if c != nil {
				namespace, name = c.Namespace, c.Name
			}
			r.metrics.Ingress(namespace, name, status, int64(bytes), took)
		},
	}
}

func (r *Replica) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(r.Logger.Handler(), slog.LevelDebug),
	}
}

// stop ends what takes and moves events, in order.
func (r *Replica) stop(servers []interface{ Shutdown(context.Context) error }) {
	r.stopping.Store(true)
	r.Logger.Info("stopping", "linger", r.Linger, "drain", r.Drain)
	time.Sleep(r.Linger)
	ctx, cancel := context.WithTimeout(context.Background(), r.Drain)
	defer cancel()
	var closing sync.WaitGroup
	for _, s := range servers {
		closing.Go(func() {
			if err := s.Shutdown(ctx); err != nil {
				r.Logger.Warn("not all requests could be answered", "error", err)
			}
		})
	}
	closing.Wait()
	if err := r.Dispatcher.Close(ctx); err != nil {
		// Nothing is lost: it comes back, to another replica.
		r.Logger.Warn("not all that was in flight could be finished", "error", err)
	}
}
