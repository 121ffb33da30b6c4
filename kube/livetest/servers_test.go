package livetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
	brokers "github.com/sidestep-dev/sidestep/internal/broker"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// servers are the brokers of a test, each in memory, and its payload store.
type servers struct {
	claims string // a folder

	mu     sync.Mutex
	stores map[string]*membackend.Store // by the ID of a Spec
	down   map[string]error             // why one cannot be reached
}

func newServers(t *testing.T) *servers {
	return &servers{claims: t.TempDir(), stores: make(map[string]*membackend.Store), down: make(map[string]error)}
}

func (s *servers) Open(_ context.Context, spec brokers.Spec, _ *slog.Logger) (backend.Backend, error) {
	return s.connect(spec.ID())
}

func (s *servers) connect(id string) (backend.Backend, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.down[id]; err != nil {
		return nil, errors.Join(err, backend.ErrUnavailable)
	}
	if s.stores[id] == nil {
		s.stores[id] = membackend.NewStore(membackend.Options{})
	}
	return s.stores[id].Connect(), nil
}

// setDown has a broker not be reached by who connects from now on; nil ends it.
func (s *servers) setDown(id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down[id] = err
}

func (*servers) Renew(context.Context, brokers.Spec) error { return nil }

func (*servers) Dial() (*nats.Conn, error) { return nil, errors.New("there is no JetStream here") }

func (s *servers) ClaimStore(c *manifest.ClaimCheck) string {
	if c.Store != "" {
		return c.Store
	}
	return "file://" + s.claims
}

func (*servers) CompleteClaimStore(_ context.Context, url, secret string) (string, error) {
	if secret != "" {
		return "", fmt.Errorf("there is no Secret %s here", secret)
	}
	return url, nil
}
