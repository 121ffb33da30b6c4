package broker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/internal/store"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func address(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestTheStoreIsWaitedForAndThenKeepsLogs(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	password := filepath.Join(t.TempDir(), "password")
	clients := address(t)
	s := Store{URL: "nats://" + clients, PasswordFile: password, Replicas: 1}
	c := manifest.Config{Backend: manifest.BackendEmbedded}
	logger := slog.New(slog.DiscardHandler)

	if _, err := Open(ctx, c, s, logger); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("without a password: %v", err)
	}
	if err := os.WriteFile(password, []byte("correct horse battery"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, c, s, logger); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("without a store: %v", err)
	}
	opened := make(chan backend.Backend, 1)
	go func() {
		b, err := Wait(ctx, c, s, logger)
		if err != nil {
			t.Error(err)
		}
		opened <- b
	}()
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- store.Run(running, store.Config{
			Dir: t.TempDir(), Name: "s-0", Listen: clients, Cluster: address(t), User: User, PasswordFile: password,
		})
	}()
	if b := <-opened; b != nil {
		if _, err := b.EnsureLog(ctx, backend.Log{Name: "n/c"}); err != nil {
			t.Error(err)
		}
		if err := b.Publish(ctx, "n/c", &backend.Record{Data: []byte("x")}); err != nil {
			t.Error(err)
		}
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Wait(ctx, manifest.Config{Backend: manifest.BackendEmbedded}, Store{PasswordFile: "/nonexistent"}, slog.New(slog.DiscardHandler))
	if !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
