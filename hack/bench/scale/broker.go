package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sidestep-dev/sidestep/internal/kafkabroker"
)

// broker is what dispatchers keep their logs in.
type broker struct {
	address string // "": each has its own
	config  string // of config-sidestep
	stop    func()
}

// brokerPatience bounds the start of an empty broker.
const brokerPatience = time.Minute

// startBroker starts an empty one in a folder.
func startBroker(ctx context.Context, kind, dir string) (*broker, error) {
	dir = filepath.Join(dir, "broker")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	switch kind {
	case onKafka:
		b, err := kafkabroker.Start(ctx, kafkabroker.Options{Dir: dir})
		if err != nil {
			return nil, err
		}
		return &broker{
			address: b.Address, stop: b.Kill,
			config: fmt.Sprintf("  backend: kafka\n  kafka: |\n    brokers: [%q]\n", b.Address),
		}, nil
	case onNATS:
		s, err := server.NewServer(&server.Options{
			Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true,
		})
		if err != nil {
			return nil, err
		}
		s.Start()
		stop := func() { s.Shutdown(); s.WaitForShutdown() }
		if !s.ReadyForConnections(brokerPatience) {
			stop()
			return nil, errors.New("the NATS server does not start")
		}
		return &broker{
			address: s.Addr().String(), stop: stop,
			config: fmt.Sprintf("  backend: nats\n  nats: |\n    url: %s\n", s.ClientURL()),
		}, nil
	default:
		return &broker{config: "  backend: embedded\n", stop: func() {}}, nil
	}
}

// topicsAtOnce are made by one request of the other client.
const topicsAtOnce = 500

// makeTopics has another client make so many topics on an empty broker of its own, and
// tells how long that takes the broker: until it takes requests for all of them, which
// is long after it has said that they are made.
func makeTopics(ctx context.Context, dir string, n int) (time.Duration, error) {
	b, err := startBroker(ctx, onKafka, dir)
	if err != nil {
		return 0, err
	}
	defer b.stop()
	c, err := kgo.NewClient(kgo.SeedBrokers(b.address))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	admin := kadm.NewClient(c)
	admin.SetTimeoutMillis(int32(brokerPatience.Milliseconds()))
	began := time.Now()
	for made := 0; made < n; made += topicsAtOnce {
		names := make([]string, min(topicsAtOnce, n-made))
		for i := range names {
			names[i] = fmt.Sprintf("topic-%d", made+i)
		}
		answers, err := admin.CreateTopics(ctx, 1, 1, nil, names...)
		if err == nil {
			err = answers.Error()
		}
		if err != nil {
			return 0, err
		}
	}
	for {
		ends, err := admin.ListEndOffsets(ctx)
		if err != nil {
			return 0, err
		}
		if usable := 0; ends.Error() == nil {
			ends.Each(func(kadm.ListedOffset) { usable++ })
			if usable >= n {
				return time.Since(began), nil
			}
		}
		if err := pause(ctx, time.Second/4); err != nil {
			return 0, err
		}
	}
}
