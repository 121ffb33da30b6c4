package standalone

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend/natsbackend"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// storeFolder is where the embedded server keeps its files, under --data.
const storeFolder = "jetstream"

// embeddedAckWait is how long what was in flight waits after a restart. Nothing
// but this process has to keep up with it.
const embeddedAckWait = 5 * time.Second

// openBackend connects to the backend that the files name, starting the
// embedded server if it is that one.
func (p *process) openBackend(ctx context.Context, undo *closers) (*natsbackend.Backend, error) {
	n := p.set.Config.NATS
	c := natsbackend.Config{
		Replicas: n.Replicas,
		Memory:   n.Memory,
		Logger:   p.Logger.With("backend", p.set.Config.Backend),
	}
	if p.set.Config.Backend == manifest.BackendNATS {
		c.URL, c.CredentialsFile = n.URL, n.CredentialsFile
	} else {
		s, err := natsbackend.StartServer(natsbackend.ServerConfig{
			Dir:          filepath.Join(p.Data, storeFolder),
			SyncAlways:   n.SyncAlways,
			SyncInterval: n.SyncInterval,
			Logger:       c.Logger,
		})
		if err != nil {
			return nil, err
		}
		undo.add(inTime(shutdownGrace, func(ctx context.Context) error {
			if err := s.Close(ctx); err != nil {
				p.Logger.Debug("leaving before the embedded server has closed all files", "error", err)
			}
			return nil
		}))
		c.Server, c.Replicas, c.AckWait = s, 1, embeddedAckWait
	}
	b, err := natsbackend.Connect(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open backend %s: %w", p.set.Config.Backend, err)
	}
	undo.add(inTime(shutdownGrace, b.Close))
	return b, nil
}

// inTime gives f a context that ends after d.
func inTime(d time.Duration, f func(context.Context) error) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		return f(ctx)
	}
}
