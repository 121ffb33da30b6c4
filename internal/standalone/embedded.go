package standalone

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/natsbackend"
	"github.com/sidestep-dev/sidestep/internal/broker"
)

// storeFolder is where the embedded server keeps its files, under --data.
const storeFolder = "jetstream"

// embeddedAckWait is how long what was in flight waits after a restart. Nothing
// but this process has to keep up with it.
const embeddedAckWait = 5 * time.Second

// openEmbedded starts the embedded server, with its files under a folder, and connects
// to it.
func openEmbedded(data string) broker.Open {
	return func(ctx context.Context, s broker.Spec, logger *slog.Logger) (backend.Backend, error) {
		server, err := natsbackend.StartServer(natsbackend.ServerConfig{
			Dir: filepath.Join(data, storeFolder), SyncAlways: s.NATS.SyncAlways, SyncInterval: s.NATS.SyncInterval, Logger: logger,
		})
		if err != nil {
			return nil, err
		}
		e := &embedded{server: server, logger: logger}
		e.Backend, err = natsbackend.Connect(ctx, natsbackend.Config{
			Server: server, Replicas: 1, Memory: s.NATS.Memory, AckWait: embeddedAckWait, Logger: logger,
		})
		if err != nil {
			return nil, errors.Join(err, server.Close(ctx))
		}
		return e, nil
	}
}

// embedded is a backend with the server that it is connected to.
type embedded struct {
	*natsbackend.Backend
	server *natsbackend.Server
	logger *slog.Logger
}

// Close implements backend.Backend.
func (e *embedded) Close(ctx context.Context) error {
	err := e.Backend.Close(ctx)
	if late := e.server.Close(ctx); late != nil {
		e.logger.Debug("leaving before the embedded server has closed all files", "error", late)
	}
	return err
}
