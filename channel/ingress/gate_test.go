package ingress_test

import (
	"context"
	"errors"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// gate holds up each Publish until the test opens it. It tells when one has
// come to it, and when a record has become durable.
type gate struct {
	backend.Backend
	came    chan struct{}
	open    chan struct{}
	durable func()
}

func newGate() *gate {
	return &gate{came: make(chan struct{}, 64), open: make(chan struct{}), durable: func() {}}
}

// around is for setup.wrap.
func (g *gate) around(s *setup) {
	s.wrap = func(b backend.Backend) backend.Backend {
		g.Backend = b
		return g
	}
}

func (g *gate) Publish(ctx context.Context, log string, r *backend.Record) error {
	g.came <- struct{}{}
	select {
	case <-g.open:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), backend.ErrUnavailable)
	}
	err := g.Backend.Publish(ctx, log, r)
	if err == nil {
		g.durable()
	}
	return err
}

func wait(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	select {
	case <-c:
	case <-ctx.Done():
		t.Fatalf("waited %v for %s", patience, what)
	}
}

// receive takes the next record from the log of channel ns/a.
func (f *fixture) receive() *backend.Delivery {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := f.memory.Subscribe(ctx, "ns/a", group, backend.Options{})
	if err != nil {
		f.t.Fatal(err)
	}
	defer s.Close()
	rec, err := s.Receive(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	return rec
}
