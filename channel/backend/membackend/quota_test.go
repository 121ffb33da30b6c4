package membackend_test

import (
	"errors"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
)

const (
	quotaLog = "ns/log"
	recSize  = 100
)

// quotaBackend has room for two records, and a log with two groups.
func quotaBackend(t *testing.T) *membackend.Backend {
	t.Helper()
	b := membackend.New(membackend.Options{MaxBytes: 2 * recSize})
	makeLog(t, b)
	return b
}

func makeLog(t *testing.T, b backend.Backend) {
	t.Helper()
	_, err := b.EnsureLog(t.Context(), backend.Log{Name: quotaLog})
	must(t, err)
	for _, g := range []string{"g1", "g2"} {
		must(t, b.EnsureGroup(t.Context(), quotaLog, backend.Group{Name: g}))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func publish(t *testing.T, b backend.Backend) error {
	t.Helper()
	return b.Publish(t.Context(), quotaLog, &backend.Record{Data: make([]byte, recSize)})
}

func receive(t *testing.T, b backend.Backend, group string) (backend.Subscription, *backend.Delivery) {
	t.Helper()
	s, err := b.Subscribe(t.Context(), quotaLog, group, backend.Options{})
	must(t, err)
	d, err := s.Receive(t.Context())
	must(t, err)
	return s, d
}

// wantFull checks that the store takes n records more, and then says ErrFull.
func wantFull(t *testing.T, b backend.Backend, n int) {
	t.Helper()
	for range n {
		must(t, b.Room(quotaLog))
		must(t, publish(t, b))
	}
	for what, err := range map[string]error{"Publish": publish(t, b), "Room": b.Room(quotaLog)} {
		if !errors.Is(err, backend.ErrFull) || !errors.Is(err, backend.ErrUnavailable) {
			t.Errorf("%s of a full store: %v", what, err)
		}
	}
}

func TestQuotaIsNotExceeded(t *testing.T) {
	t.Parallel()
	b := quotaBackend(t)
	wantFull(t, b, 2)
	for _, g := range []string{"g1", "g2"} { // room is made by the last ack
		s, d := receive(t, b, g)
		must(t, s.Ack(d))
		if full := errors.Is(b.Room(quotaLog), backend.ErrFull); full != (g == "g1") {
			t.Errorf("after the ack of %s: full is %v", g, full)
		}
	}
	wantFull(t, b, 1)
}

func TestLateAckOfDeletedLogDoesNotMakeRoom(t *testing.T) {
	t.Parallel()
	b := quotaBackend(t)
	must(t, publish(t, b))
	var subs []backend.Subscription
	var ds []*backend.Delivery
	for _, g := range []string{"g1", "g2"} {
		s, d := receive(t, b, g)
		subs, ds = append(subs, s), append(ds, d)
	}
	must(t, b.DeleteLog(t.Context(), quotaLog))
	for i, s := range subs {
		must(t, s.Ack(ds[i]))
	}
	makeLog(t, b)
	wantFull(t, b, 2)
}

func TestLateAckOfDeletedGroupDoesNotMakeRoom(t *testing.T) {
	t.Parallel()
	b := quotaBackend(t)
	must(t, publish(t, b))
	s, d := receive(t, b, "g1")
	must(t, b.DeleteGroup(t.Context(), quotaLog, "g1"))
	must(t, s.Ack(d))
	wantFull(t, b, 1) // the other group has still to ack the first
}
