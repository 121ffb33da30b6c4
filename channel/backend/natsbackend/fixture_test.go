package natsbackend

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// patience bounds what must happen.
const patience = 30 * time.Second

func ctxOf(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// startServer starts an embedded server, stopped with the test.
func startServer(t testing.TB, c ServerConfig) *Server {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	s, err := StartServer(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopServer(t, s) })
	return s
}

// connectTo is a connection that is closed with the test.
func connectTo(t testing.TB, c Config) *Backend {
	t.Helper()
	if c.AckWait == 0 {
		c.AckWait = testAckWait
	}
	b := connect(t, c)
	t.Cleanup(func() { closeBackend(t, b) })
	return b
}

func closeBackend(t testing.TB, b *Backend) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Errorf("close backend: %v", err)
	}
}

func newLogName() string { return "test/" + rand.Text() }

func makeLog(t testing.TB, b *Backend, ordered bool, groups ...string) string {
	t.Helper()
	log := newLogName()
	if _, err := b.EnsureLog(ctxOf(t), backend.Log{Name: log, Ordered: ordered}); err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if err := b.EnsureGroup(ctxOf(t), log, backend.Group{Name: g}); err != nil {
			t.Fatal(err)
		}
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

// numbered is prefix0, prefix1, …
func numbered(prefix string, n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprint(prefix, i)
	}
	return s
}

func subscribe(t testing.TB, b *Backend, log, group string, o backend.Options) *member {
	t.Helper()
	s, err := b.Subscribe(ctxOf(t), log, group, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(*member)
}

func receive(t testing.TB, s backend.Subscription) *backend.Delivery {
	t.Helper()
	d, err := s.Receive(ctxOf(t))
	if err != nil {
		t.Fatalf("Receive: %v", err)
	}
	return d
}

func ackAll(t testing.TB, s backend.Subscription, ds ...*backend.Delivery) {
	t.Helper()
	for _, d := range ds {
		if err := s.Ack(d); err != nil {
			t.Fatalf("Ack: %v", err)
		}
	}
}

// eventually polls until check says nil.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// settled: the group has nothing left to settle.
func settled(t testing.TB, b *Backend, log, group string) func() error {
	return func() error {
		lag, err := b.Lag(ctxOf(t), log, group)
		if err == nil && lag.Records != 0 {
			err = fmt.Errorf("%d records are not settled", lag.Records)
		}
		return err
	}
}

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}
