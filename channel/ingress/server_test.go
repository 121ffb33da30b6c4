package ingress_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/ingress"
)

// A process may be told to stop in the moment in which it has started.
func TestShutdownDoesNotMissAServeThatHasJustBegun(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for range 200 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := ingress.NewServer(f.handler, nil)
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		if err := s.Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-ctx.Done():
			t.Fatal("it serves after Shutdown")
		}
		if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
			t.Fatal("it still listens")
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("the listener was left open: %v", err)
		}
	}
}
