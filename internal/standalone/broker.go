package standalone

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/natsbackend"
	connect "github.com/sidestep-dev/sidestep/internal/broker"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// storeFolder is where the embedded server keeps its files, under --data.
const storeFolder = "jetstream"

// embeddedAckWait is how long what was in flight waits after a restart. Nothing
// but this process has to keep up with it.
const embeddedAckWait = 5 * time.Second

// broker is how a backend is reached: what a restart needs to open one that records
// are still on. It holds no secrets, only the names of files with some.
type broker struct {
	Kind  string         `json:"kind"`
	NATS  manifest.NATS  `json:"nats,omitzero"`
	Kafka manifest.Kafka `json:"kafka,omitzero"`
}

// brokerOf is the one of a kind that the files describe.
func brokerOf(c *manifest.Config, kind string) broker {
	b := broker{Kind: kind}
	switch kind {
	case manifest.BackendKafka:
		b.Kafka = c.Kafka
	default:
		b.NATS = c.NATS // of the embedded server: how it stores
	}
	return b
}

// id names the place that records are in: who we are there, and how they are stored, does
// not make it another one.
func (b broker) id() string {
	var place []string
	switch b.Kind {
	case manifest.BackendNATS:
		for url := range strings.SplitSeq(b.NATS.URL, ",") {
			place = append(place, strings.TrimSpace(url))
		}
	case manifest.BackendKafka:
		place = slices.Clone(b.Kafka.Brokers)
	default:
		return b.Kind
	}
	slices.Sort(place)
	place = append(place, b.Kafka.TopicTemplate)
	sum := sha256.Sum256([]byte(strings.Join(place, "\x00")))
	return b.Kind + "-" + hex.EncodeToString(sum[:4])
}

// open connects to it, starting the embedded server if it is that one. instance is
// who we are there, also when we are started again.
func (b broker) open(ctx context.Context, data, instance string, logger *slog.Logger) (backend.Backend, error) {
	logger = logger.With("backend", b.id())
	switch b.Kind {
	case manifest.BackendKafka:
		return connect.Kafka(ctx, &b.Kafka, instance, logger)
	case manifest.BackendNATS:
		return connect.NATS(ctx, &b.NATS, logger)
	default:
		return b.openEmbedded(ctx, filepath.Join(data, storeFolder), logger)
	}
}

func (b broker) openEmbedded(ctx context.Context, dir string, logger *slog.Logger) (backend.Backend, error) {
	s, err := natsbackend.StartServer(natsbackend.ServerConfig{
		Dir: dir, SyncAlways: b.NATS.SyncAlways, SyncInterval: b.NATS.SyncInterval, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	e := &embedded{server: s, logger: logger}
	e.Backend, err = natsbackend.Connect(ctx, natsbackend.Config{
		Server: s, Replicas: 1, Memory: b.NATS.Memory, AckWait: embeddedAckWait, Logger: logger,
	})
	if err != nil {
		return nil, errors.Join(err, s.Close(ctx))
	}
	return e, nil
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

// natsOf is the connection to a JetStream backend, nil for another one.
func natsOf(b backend.Backend) *natsbackend.Backend {
	switch b := b.(type) {
	case *embedded:
		return b.Backend
	case *natsbackend.Backend:
		return b
	default:
		return nil
	}
}

// errSmall: a backend does not take what travels in a record.
var errSmall = errors.New("it does not take records that are large enough")

// fits refuses a backend that does not take events with data up to the threshold.
func fits(b backend.Backend, threshold int64, attributes int) error {
	if most := int64(b.Limits().MaxRecordBytes - attributes); threshold > most {
		return fmt.Errorf("%w: claim-check.threshold is %d bytes, and it takes %d at most beside an event's attributes", errSmall, threshold, most)
	}
	return nil
}
