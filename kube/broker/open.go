package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/natsbackend"
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
	n := natsbackend.Config{
		Replicas: c.NATS.Replicas,
		Memory:   c.NATS.Memory,
		Logger:   logger.With("backend", c.Backend),
	}
	if c.Backend == manifest.BackendNATS {
		n.URL, n.CredentialsFile = c.NATS.URL, c.NATS.CredentialsFile
	} else {
		password, err := os.ReadFile(s.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("open backend %s: read password: %w", c.Backend, errors.Join(err, backend.ErrUnavailable))
		}
		n.URL, n.User, n.Password, n.Replicas = s.URL, User, strings.TrimSpace(string(password)), s.Replicas
	}
	b, err := natsbackend.Connect(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("open backend %s: %w", c.Backend, err)
	}
	return b, nil
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
