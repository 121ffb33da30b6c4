package sidecar

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/colocate/wire"
	"github.com/sidestep-dev/sidestep/internal/budget"
)

// defaultTimeout limits an attempt where the slip does not.
const defaultTimeout = 10 * time.Minute

// stepDialTimeout limits the look whether a step takes connections.
const stepDialTimeout = 250 * time.Millisecond

// Sidecar runs chains in its pod. Make it with New; Server serves it. Its methods
// may be called from any goroutine.
type Sidecar struct {
	Config
	client   *egress.Client
	verifier *wire.Verifier[*slip]
	spool    *spool
	memory   *budget.Budget
	steps    []*step // as in Config.Allow
	byName   map[string]*step
	dialer   net.Dialer
	chains   atomic.Int64
	next     atomic.Uint64 // numbers chains
	draining atomic.Bool
	trusting atomic.Bool // somebody
	counts   counts
}

// slip is one that was found good, with what its steps need.
type slip struct {
	*wire.Slip
	calls []call
}

// call is a step of a slip.
type call struct {
	*wire.Step
	step    *step
	target  egress.Target
	extra   []event.Attribute
	timeout time.Duration
}

// New makes a Sidecar that trusts nobody yet. Close frees it.
func New(c Config) (*Sidecar, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Sidecar{Config: c.withDefaults()}
	s.memory = budget.New(s.Memory)
	for _, p := range s.Allow {
		s.steps = append(s.steps, newStep(p, strconv.Itoa(int(p.Number)), s.MaxInFlight))
	}
	s.byName, s.dialer.Timeout = make(map[string]*step, len(s.Names)), stepDialTimeout
	for name, port := range s.Names {
		s.byName[name] = s.step(port)
	}
	var err error
	if s.spool, err = openSpool(&s.Config); err != nil {
		return nil, err
	}
	s.client = egress.New(egress.Config{
		Payloads:        s.spool,
		MaxConnsPerHost: s.MaxInFlight,
		Proxy:           func(*http.Request) (*url.URL, error) { return nil, nil }, //nolint:nilnil // none
	})
	s.verifier = wire.NewVerifier(s.Pod, s.Namespace, s.prepare)
	return s, nil
}

// Close frees what New has taken. No request may be under way.
func (s *Sidecar) Close() {
	s.client.Close()
	s.spool.close()
}

// Trust replaces the keys that slips may be signed with.
func (s *Sidecar) Trust(keys []ed25519.PublicKey) error {
	if err := s.verifier.Trust(keys); err != nil {
		return err
	}
	s.trusting.Store(len(keys) > 0)
	return nil
}

// Drain has no more chains begin; those under way give their event back before
// their next step.
func (s *Sidecar) Drain() { s.draining.Store(true) }

// Chains is how many are under way.
func (s *Sidecar) Chains() int { return int(s.chains.Load()) }

// errPort: whatever a slip says, only what is allowed is called.
var errPort = errors.New("a port that is not allowed here")

// prepare is called once for each slip that is signed well.
func (s *Sidecar) prepare(w *wire.Slip) (*slip, error) {
	p := &slip{Slip: w, calls: make([]call, len(w.Steps))}
	for i := range w.Steps {
		ws := &w.Steps[i]
		st := s.step(ws.Port)
		if st == nil {
			return nil, fmt.Errorf("step %d: %w: %d", i, errPort, ws.Port)
		}
		c := call{
			Step: ws, step: st, timeout: ws.Timeout,
			target: egress.Target{URL: "http://" + st.address + ws.Path, Host: ws.Host},
		}
		if ws.Authorization != "" {
			c.extra = []event.Attribute{{Name: "authorization", Value: ws.Authorization}}
		}
		if c.timeout == 0 {
			c.timeout = defaultTimeout
		}
		p.calls[i] = c
	}
	return p, nil
}

func (s *Sidecar) step(port uint16) *step {
	for i, p := range s.Allow {
		if p.Number == port {
			return s.steps[i]
		}
	}
	return nil
}

func (s *Sidecar) handshake() *wire.Handshake {
	h := &wire.Handshake{
		Pod: s.Pod, Namespace: s.Namespace, MinVersion: wire.MinVersion, Version: wire.Version,
		Claims: s.Claims != "", Inline: s.Inline, MaxEventBytes: s.MaxEventBytes,
	}
	for _, p := range s.Allow {
		h.Ports = append(h.Ports, p.Number)
	}
	if s.Claims == "" {
		h.MaxEventBytes = int64(s.Inline)
	}
	return h
}
