package replica

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/colocate"
	"github.com/sidestep-dev/sidestep/colocate/balance"
	"github.com/sidestep-dev/sidestep/internal/budget"
	"github.com/sidestep-dev/sidestep/internal/telemetry"
)

// Replica is a dispatcher with its servers.
type Replica struct {
	Config
	// Dispatcher is there once Open was called.
	Dispatcher *channel.Dispatcher

	engine  Engine
	hops    telemetry.Hops
	metrics *telemetry.Metrics
	bytes   *budget.Budget
	sender  *egress.Client
	pods    *colocate.Pods // nil: none
	ready   readiness

	events, eventsTLS, admin net.Listener
}

// New makes a Replica without an engine. Nothing serves yet, but its addresses
// are taken. Close frees it.
func New(c Config) (*Replica, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configure replica: %w", err)
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	r := &Replica{Config: c}
	if err := r.listen(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Replica) listen() (err error) {
	for _, l := range []struct {
		what, address string
		into          *net.Listener
	}{
		{"events", r.Listen, &r.events},
		{"events over TLS", r.ListenTLS, &r.eventsTLS},
		{"the admin server", r.Admin, &r.admin},
	} {
		if l.address == "" {
			continue
		}
		if *l.into, err = net.Listen("tcp", l.address); err != nil {
			return fmt.Errorf("listen for %s: %w", l.what, err)
		}
	}
	return nil
}

// Open makes the engine, with an empty table. It is called once.
func (r *Replica) Open(e Engine) (err error) {
	if err := e.Validate(); err != nil {
		return fmt.Errorf("configure replica: %w", err)
	}
	e.MaxStructuredBytes = cmp.Or(e.MaxStructuredBytes, e.Backend.Limits().MaxRecordBytes)
	r.engine = e
	client := e.Egress
	client.MaxReplyBytes = e.MaxStructuredBytes
	if e.Claims != nil { // not a PayloadStore that is a nil *Claims
		client.Payloads = e.Claims
	}
	r.sender = egress.New(client)
	var pods channel.Pods // nor one that is a nil *colocate.Pods
	if e.SlipKey != nil {
		r.pods, err = colocate.New(colocate.Config{
			Key: e.SlipKey, Sender: r.sender, Balance: balance.Config{Policy: e.Routing}, Logger: r.Logger,
		})
		if err != nil {
			return err
		}
		pods = r.pods
	}
	r.bytes = budget.New(cmp.Or(e.ByteBudget, channel.DefaultBudget))
	r.metrics = telemetry.New(r.Registry, &r.hops)
	r.Dispatcher, err = channel.New(channel.Config{
		Backend:         e.Backend,
		Sender:          r.sender,
		Key:             e.Key,
		Claims:          e.Claims,
		Pods:            pods,
		Budget:          r.bytes,
		Window:          e.Window,
		CheckpointAfter: e.CheckpointAfter,
		Observer:        r.metrics,
		Tracer:          e.Tracer,
		Logger:          r.Logger,
	})
	if err != nil {
		return err
	}
	telemetry.Gauges(r.Registry, r.Dispatcher, r.bytes)
	return nil
}

// Close frees what New and Open made, after Serve has returned.
func (r *Replica) Close() error {
	var errs []error
	if r.Dispatcher != nil {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
		defer cancel()
		errs = append(errs, r.Dispatcher.Close(ctx))
	}
	if r.pods != nil {
		r.pods.Close()
	}
	if r.sender != nil {
		r.sender.Close()
	}
	for _, l := range []net.Listener{r.events, r.eventsTLS, r.admin} {
		if l == nil {
			continue
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// SetPods has chains run in these pods from now on. Without a key for slips there are
// none, which is no error.
func (r *Replica) SetPods(m *colocate.Map) error {
	if r.pods == nil {
		return nil
	}
	return r.pods.SetMap(m)
}

// SetRouting changes how one of several pods is chosen.
func (r *Replica) SetRouting(p balance.Policy) error {
	if r.pods == nil {
		return nil
	}
	return r.pods.SetPolicy(p)
}

// SetSlipKey changes the key that slips are signed with.
func (r *Replica) SetSlipKey(key ed25519.PrivateKey) error {
	if r.pods == nil {
		return nil
	}
	return r.pods.SetKey(key)
}

// Forget has what is trusted of https targets looked at anew.
func (r *Replica) Forget() { r.sender.Forget() }

// Addresses of the servers for events (TLS "" if there is none) and of the admin
// server.
func (r *Replica) Addresses() (events, eventsTLS, admin string) {
	if r.eventsTLS != nil {
		eventsTLS = r.eventsTLS.Addr().String()
	}
	return r.events.Addr().String(), eventsTLS, r.admin.Addr().String()
}
