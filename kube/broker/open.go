package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/natsbackend"
	"github.com/sidestep-dev/sidestep/internal/broker"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// Store says how the store that comes with Sidestep is reached.
type Store struct {
	// URL of its Service.
	URL string
	// PasswordFile holds what clients show.
	PasswordFile string
	// Replicas of it: so many copies of each record are kept.
	Replicas int
}

// User is who clients of the store say they are.
const User = "sidestep"

// How Wait tries again.
const (
	pauseFirst = 100 * time.Millisecond
	pauseMost  = 5 * time.Second
)

// Open connects once. The error wraps backend.ErrUnavailable if trying again may
// help.
func Open(ctx context.Context, c manifest.Config, s Store, logger *slog.Logger) (backend.Backend, error) {
	var b backend.Backend
	var err error
	logger = logger.With("backend", c.Backend)
	switch c.Backend {
	case manifest.BackendKafka:
		b, err = broker.Kafka(ctx, &c.Kafka, "", logger)
	case manifest.BackendNATS:
		b, err = broker.NATS(ctx, &c.NATS, logger)
	default:
		b, err = openStore(ctx, &c.NATS, s, logger)
	}
	if err != nil {
		return nil, fmt.Errorf("open backend %s: %w", c.Backend, err)
	}
	return b, nil
}

// openStore reads the password anew whenever it connects: it may be another one by
// then.
func openStore(ctx context.Context, n *manifest.NATS, s Store, logger *slog.Logger) (backend.Backend, error) {
	if _, err := os.Stat(s.PasswordFile); err != nil {
		return nil, fmt.Errorf("password of the store: %w", errors.Join(err, backend.ErrUnavailable))
	}
	return natsbackend.Connect(ctx, natsbackend.Config{
		URL: s.URL, User: User, PasswordFile: s.PasswordFile, Replicas: s.Replicas, Memory: n.Memory, Logger: logger,
	})
}

// Wait is Open, again and again until it succeeds or ctx ends.
func Wait(ctx context.Context, c manifest.Config, s Store, logger *slog.Logger) (backend.Backend, error) {
	for pause := pauseFirst; ; pause = min(2*pause, pauseMost) {
		b, err := Open(ctx, c, s, logger)
		if err == nil {
			return b, nil
		}
		logger.Warn("the backend cannot be opened yet; trying again", "pause", pause, "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, err
		}
	}
}
