package kafkabackend

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/internal/brokertest/kafkatest"
)

// patience bounds what must happen.
const patience = time.Minute

func ctxOf(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// broker is the shared one.
func sharedBroker(t testing.TB) *kafkatest.Broker {
	t.Helper()
	return kafkatest.Shared(t)
}

func newPrefix() string { return "t-" + strings.ToLower(rand.Text()[:12]) }

// connectTo is a connection that is closed with the test.
func connectTo(t testing.TB, c Config) *Backend {
	t.Helper()
	if c.AckWait == 0 {
		c.AckWait = testAckWait
	}
	if c.Prefix == "" {
		c.Prefix = newPrefix()
	}
	b := connect(t, c)
	t.Cleanup(func() { closeBackend(t, b) })
	return b
}

func closeBackend(t testing.TB, b *Backend) {
	t.Helper()
	if err := b.Close(context.Background()); err != nil {
		t.Errorf("close backend: %v", err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func makeLog(t testing.TB, b *Backend, ordered bool, groups ...string) string {
	t.Helper()
	log := "test/" + rand.Text()
	_, err := b.EnsureLog(ctxOf(t), backend.Log{Name: log, Ordered: ordered})
	must(t, err)
	for _, g := range groups {
		must(t, b.EnsureGroup(ctxOf(t), log, backend.Group{Name: g}))
	}
	return log
}

func publish(t testing.TB, b *Backend, log string, data ...string) {
	t.Helper()
	for _, d := range data {
		if err := b.Publish(ctxOf(t), log, &backend.Record{Data: []byte(d)}); err != nil {
			t.Fatalf("Publish(%.20q): %v", d, err)
		}
	}
}

func subscribe(t testing.TB, b *Backend, log, group string, o backend.Options) backend.Subscription {
	t.Helper()
	s, err := b.Subscribe(ctxOf(t), log, group, o)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func receive(t testing.TB, s backend.Subscription) *backend.Delivery {
	t.Helper()
	d, err := s.Receive(ctxOf(t))
	if err != nil {
		t.Fatalf("Receive: %v", err)
	}
	return d
}

// eventually polls until check says nil.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// settledAll: the group has nothing left to settle.
func settledAll(t testing.TB, b *Backend, log, group string) func() error {
	return func() error {
		lag, err := b.Lag(ctxOf(t), log, group)
		if err == nil && lag.Records != 0 {
			err = fmt.Errorf("%d records are not settled", lag.Records)
		}
		return err
	}
}

// topicNamed is the topic of a log.
func topicNamed(t testing.TB, b *Backend, log string) string {
	t.Helper()
	e, err := b.catalog.find(ctxOf(t), log)
	must(t, err)
	return e.Topic
}

// client is somebody else's, of another library.
func client(t testing.TB, address string, o ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(o, kgo.SeedBrokers(address))...)
	must(t, err)
	t.Cleanup(c.Close)
	return c
}
