package natsbackend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

const smallBuffer = 4 << 10

// large is a record that does not fit into smallBuffer.
func large(id string) string { return id + strings.Repeat(".", 4*smallBuffer) }

func idOf(d *backend.Delivery) string {
	id, _, _ := strings.Cut(string(d.Data), ".")
	return id
}

// unreceived counts large records that are here and were not received.
func (b *Backend) unreceived() int {
	n := 0
	b.eachMember(func(m *member) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, h := range m.ready {
			if len(h.msg.Data) > m.buffer {
				n++
			}
		}
	})
	return n
}

func TestLargeRecordsDoNotStarveAnySubscription(t *testing.T) {
	t.Parallel()
	const subscriptions, records = 30, 12
	b := connectTo(t, Config{Server: startServer(t, ServerConfig{})})
	ctx := ctxOf(t)
	var running sync.WaitGroup
	for range subscriptions {
		log := makeLog(t, b, false, "g")
		for i := range records {
			if id := fmt.Sprint(i); i%3 == 0 {
				publish(t, b, log, large(id))
			} else {
				publish(t, b, log, id)
			}
		}
		sub := subscribe(t, b, log, "g", backend.Options{Window: 8, Buffer: smallBuffer})
		running.Go(func() {
			seen := make(map[string]bool)
			for len(seen) < records {
				d, err := sub.Receive(ctx)
				if err != nil {
					t.Errorf("%d of %d records received: %v", len(seen), records, err)
					return
				}
				seen[idOf(d)] = true
				if n := b.unreceived(); n > largeAtOnce {
					t.Errorf("%d large records are in memory that nobody has received, at most %d may be", n, largeAtOnce)
				}
				if err := sub.Ack(d); err != nil {
					t.Errorf("Ack: %v", err)
				}
			}
		})
	}
	running.Wait()
	eventually(t, "places for large records that nobody uses", func() error {
		if n := len(b.large); n > 0 {
			return fmt.Errorf("%d are taken", n)
		}
		return nil
	})
}

// More subscriptions than there are places have a large record, and nobody
// receives from them: their windows are full, say.
func TestStalledSubscriptionsDoNotKeepThePlacesForLargeRecords(t *testing.T) {
	t.Parallel()
	b := connectTo(t, Config{Server: startServer(t, ServerConfig{})})
	for i := range 2 * largeAtOnce {
		log := makeLog(t, b, false, "g")
		publish(t, b, log, large("first"), large("second"))
		sub := subscribe(t, b, log, "g", backend.Options{Window: 8, Buffer: smallBuffer})
		if i%2 == 0 { // some have had one before they stalled
			ackAll(t, sub, receive(t, sub))
		}
	}
	log := makeLog(t, b, false, "g")
	publish(t, b, log, large("mine"))
	sub := subscribe(t, b, log, "g", backend.Options{Window: 8, Buffer: smallBuffer})
	if d := receive(t, sub); idOf(d) != "mine" {
		t.Fatalf("received %q", idOf(d))
	}
}

func TestCancelledReceivesDoNotKeepThePlacesForLargeRecords(t *testing.T) {
	t.Parallel()
	b := connectTo(t, Config{Server: startServer(t, ServerConfig{})})
	var subs []*member
	for range 2 * largeAtOnce {
		log := makeLog(t, b, false, "g")
		publish(t, b, log, large("kept"))
		sub := subscribe(t, b, log, "g", backend.Options{Window: 8, Buffer: smallBuffer})
		subs = append(subs, sub)
		// The moment at which a Receive that waits has had a large record
		// fetched, and is then cancelled.
		sub.mu.Lock()
		sub.waiting++
		sub.demand.oversize = true
		sub.mu.Unlock()
	}
	eventually(t, "large records that are fetched", func() error {
		if n := b.unreceived(); n < largeAtOnce {
			return fmt.Errorf("%d are here", n)
		}
		return nil
	})
	for _, s := range subs {
		s.mu.Lock()
		s.waiting--
		s.mu.Unlock()
	}
	eventually(t, "places for large records", func() error {
		if n := len(b.large); n > 0 {
			return fmt.Errorf("%d are taken", n)
		}
		return nil
	})
	for i, s := range subs {
		if d := receive(t, s); idOf(d) != "kept" {
			t.Errorf("subscription %d received %q", i, idOf(d))
		}
	}
}

// Nobody calls Receive for longer than the broker waits for a sign of life.
func TestAStalledReceiveDoesNotGiveRecordsToOthers(t *testing.T) {
	t.Parallel()
	const records = 10
	b := connectTo(t, Config{Server: startServer(t, ServerConfig{})})
	log := makeLog(t, b, false, "g")
	stalled := subscribe(t, b, log, "g", backend.Options{Window: records})
	publish(t, b, log, numbered("", records)...)
	eventually(t, "records that are ready", func() error {
		if n := stalled.readyNow(); n < records {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	other := subscribe(t, b, log, "g", backend.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*testAckWait)
	defer cancel()
	if d, err := other.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("another member received %v, %v", d, err)
	}
	for i := range records {
		d := receive(t, stalled)
		if d.Redelivered || string(d.Data) != fmt.Sprint(i) {
			t.Fatalf("received %q, redelivered %v; want %d", d.Data, d.Redelivered, i)
		}
		ackAll(t, stalled, d)
	}
}

func (m *member) readyNow() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.ready)
}

func TestAStalledReceiveDoesNotFetchMoreThanItsBuffer(t *testing.T) {
	t.Parallel()
	const records, size = 100, 512
	b := connectTo(t, Config{Server: startServer(t, ServerConfig{})})
	log := makeLog(t, b, false, "g")
	for range records {
		publish(t, b, log, strings.Repeat("x", size))
	}
	s := subscribe(t, b, log, "g", backend.Options{Window: records, Buffer: smallBuffer})
	for left := records; left > 0; left-- {
		d := receive(t, s)
		s.mu.Lock()
		bytes := s.readyBytes
		s.mu.Unlock()
		if bytes > smallBuffer {
			t.Fatalf("%d bytes are fetched and not received, at most %d may be", bytes, smallBuffer)
		}
		ackAll(t, s, d)
	}
}
