package natsbackend

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// anchors are the messages on a shard's anchor subject.
func anchors(t testing.TB, b *Backend, shard int) (uint64, error) {
	s, err := b.js.Stream(ctxOf(t), b.names.shardStream(shard))
	if err != nil {
		return 0, err
	}
	subject := b.names.anchorSubject(shard)
	i, err := s.Info(ctxOf(t), jetstream.WithSubjectFilter(subject))
	if err != nil {
		return 0, err
	}
	return i.State.Subjects[subject], nil
}

func awaitAnchor(t testing.TB, b *Backend, shard int) {
	t.Helper()
	eventually(t, "anchor", func() error {
		n, err := anchors(t, b, shard)
		if err == nil && n == 0 {
			err = errors.New("there is none")
		}
		return err
	})
}

func TestAStreamThatIsNotPublishedToHasNoAnchor(t *testing.T) {
	t.Parallel()
	b := connectTo(t, Config{Server: startServer(t, ServerConfig{})})
	const used, idle = 3, 4
	log := makeLogInShard(t, b, used)
	makeLogInShard(t, b, idle)
	for range 2 { // a second one comes with the next tick, which looks at all
		publish(t, b, log, "")
		was, err := anchors(t, b, used)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "another anchor", func() error {
			publish(t, b, log, "")
			n, err := anchors(t, b, used)
			if err == nil && n <= was {
				err = fmt.Errorf("%d, as before", n)
			}
			return err
		})
	}
	if n, err := anchors(t, b, idle); err != nil || n != 0 {
		t.Errorf("the idle stream has %d anchors, %v", n, err)
	}
	_, err := b.consumerInfo(ctxOf(t), idle, anchorConsumer)
	wantError(t, "the idle stream's consumer for anchors", err, backend.ErrNotFound)
}

func TestAnchorsDoNotCountAsLag(t *testing.T) {
	t.Parallel()
	b := connectTo(t, Config{Server: startServer(t, ServerConfig{})})
	log := makeLog(t, b, false, "g")
	publish(t, b, log, "only")
	awaitAnchor(t, b, shardOf(log))
	lag, err := b.Lag(ctxOf(t), log, "g")
	if err != nil || lag.Records != 1 {
		t.Fatalf("lag %+v, %v; want 1 record", lag, err)
	}
	sub := subscribe(t, b, log, "g", backend.Options{})
	ackAll(t, sub, receive(t, sub))
	eventually(t, "the only record", settled(t, b, log, "g"))
}

func TestARestartDoesNotLeaveAnchorsForEver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := StartServer(ServerConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	b := connect(t, Config{Server: s})
	log := makeLog(t, b, false, "g")
	publish(t, b, log, "")
	awaitAnchor(t, b, shardOf(log))
	closeBackend(t, b)
	stopServer(t, s)

	b = connectTo(t, Config{Server: startServer(t, ServerConfig{Dir: dir})})
	eventually(t, "anchors of the process before", func() error {
		n, err := anchors(t, b, shardOf(log))
		if err == nil && n > 0 {
			err = fmt.Errorf("%d are there", n)
		}
		return err
	})
}
