package replica

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/colocate/balance"
)

// Config of a Replica. Listen and Admin are required.
type Config struct {
	// Listen, ListenTLS and Admin are addresses of the servers; ListenTLS ""
	// for none, which takes TLS.
	Listen, ListenTLS, Admin string
	TLS                      *tls.Config
	// Linger is how long a replica serves on after it was told to stop; Drain
	// how long what is in flight may take after that.
	Linger, Drain time.Duration
	// Registry has the metrics; nil: one of its own.
	Registry *prometheus.Registry
	Logger   *slog.Logger
}

// Validate tells what is wrong with c, all of it.
func (c *Config) Validate() error {
	var errs []error
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

// Engine is what a Replica runs. Backend and Key are required.
type Engine struct {
	// Backend stays open: it is the caller's.
	Backend backend.Backend
	// Key signs internal headers: the same for all replicas.
	Key []byte
	// Claims keeps what is too large for the log, and Links serves it to those who
	// were given a link; nil: what is too large is refused.
	Claims *channel.Claims
	Links  http.Handler
	// SlipKey signs what sidecars may run, and Routing says how one of several pods
	// is chosen. nil: no chain runs in a pod.
	SlipKey ed25519.PrivateKey
	Routing balance.Policy
	// Egress of the client that calls steps. MaxReplyBytes and Payloads are set by
	// what else is here.
	Egress egress.Config
	// MaxStructuredBytes bounds a message in structured mode, which has to be in
	// memory as a whole; 0: the backend's limit.
	MaxStructuredBytes int
	// Window, ByteBudget and CheckpointAfter are channel.Config's and
	// budget.New's; 0 is their default.
	Window          int
	ByteBudget      int64
	CheckpointAfter time.Duration
	// Tracer makes a span of each hop; nil: there are none.
	Tracer channel.Tracer
	// Admit and AdmitTLS are ingress.Handler.Admit of the two servers.
	Admit, AdmitTLS Admission
}

// Admission is what ingress.Handler.Admit is.
type Admission = func(context.Context, *channel.Channel, string) (func(*event.Event) error, error)

// Validate tells what is wrong with e, all of it.
func (e *Engine) Validate() error {
	var errs []error
	if e.Backend == nil {
		errs = append(errs, errors.New("no backend"))
	}
	if (e.Claims == nil) != (e.Links == nil) {
		errs = append(errs, errors.New("claims and links go together"))
	}
	return errors.Join(errs...)
}

// Life is what goes on beside the servers, while Serve runs them.
type Life struct {
	// Begin brings what is needed before events are taken, such as the first table;
	// nil: nothing is.
	Begin func(context.Context) error
	// Begun is called when events are taken and the replica is ready; an error
	// stops it.
	Begun func() error
	// Run are run from then on. Their context ends when the engine has stopped.
	Run []func(context.Context)
	// Ready says why the replica is not ready, or nil, once it has begun.
	Ready func() error
	// Handlers are added to the admin server.
	Handlers map[string]http.Handler
}
