package backendtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// Load publishes to a log, and receives from it, until it is told to stop: for tests
// that do something to the connection meanwhile. Nothing that was accepted may be lost,
// and the records of a key come in order if the log is ordered.
type Load struct {
	// Log is the name of the log.
	Log     string
	b       backend.Backend
	ordered bool

	stop, end             context.CancelFunc
	publishing, receiving sync.WaitGroup

	mu       sync.Mutex
	accepted int
	seen     map[string]bool
	last     map[string]int // of each key
}

const (
	loadGroup = "g"
	loadKeys  = 4
	// loadPatience bounds what must happen.
	loadPatience = time.Minute
)

// StartLoad makes a log and begins. What it needs ends with the test.
func StartLoad(t testing.TB, b backend.Backend, ordered bool) *Load {
	t.Helper()
	l := &Load{b: b, ordered: ordered, Log: "load/" + rand.Text(), seen: make(map[string]bool), last: make(map[string]int)}
	for i := range loadKeys {
		l.last[fmt.Sprint(i)] = i - loadKeys
	}
	ctx, cancel := context.WithTimeout(t.Context(), loadPatience)
	defer cancel()
	if _, err := b.EnsureLog(ctx, backend.Log{Name: l.Log, Ordered: ordered}); err != nil {
		t.Fatal(err)
	}
	if err := b.EnsureGroup(ctx, l.Log, backend.Group{Name: loadGroup}); err != nil {
		t.Fatal(err)
	}
	sub, err := b.Subscribe(ctx, l.Log, loadGroup, backend.Options{Window: 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sub.Close() })
	receiving, end := context.WithCancel(t.Context())
	publishing, stop := context.WithCancel(receiving)
	l.stop, l.end = stop, end
	l.publishing.Go(func() { l.publish(t, publishing) })
	l.receiving.Go(func() { l.receive(t, receiving, sub) })
	t.Cleanup(func() {
		end()
		l.publishing.Wait()
		l.receiving.Wait()
	})
	return l
}

// Finish publishes no more, and waits until all that was accepted was received
// and settled.
func (l *Load) Finish(t testing.TB) {
	t.Helper()
	l.stop()
	l.publishing.Wait()
	l.eventually(t, "all that was accepted", func() error {
		if accepted, seen := l.count(); seen < accepted {
			return fmt.Errorf("%d of %d were received", seen, accepted)
		}
		return nil
	})
	l.eventually(t, "records", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), loadPatience)
		defer cancel()
		lag, err := l.b.Lag(ctx, l.Log, loadGroup)
		if err == nil && lag.Records != 0 {
			err = fmt.Errorf("%d are not settled", lag.Records)
		}
		return err
	})
	l.end()
	l.receiving.Wait()
}

// GoesOn waits until so many more records were accepted and received.
func (l *Load) GoesOn(t testing.TB, more int) {
	t.Helper()
	accepted, seen := l.count()
	l.eventually(t, "records that go through", func() error {
		if a, s := l.count(); a < accepted+more || s < seen+more {
			return fmt.Errorf("ordered %v: %d more accepted and %d received, want %d", l.ordered, a-accepted, s-seen, more)
		}
		return nil
	})
}

func (l *Load) eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(loadPatience); ; time.Sleep(5 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// publish never gives up a record: it is the ingress and its client in one.
func (l *Load) publish(t testing.TB, ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		r := &backend.Record{
			Key: fmt.Sprint(i % loadKeys), Dedup: fmt.Sprint(i), Data: []byte(fmt.Sprint(i)),
			Header: []backend.Header{{Name: "ce-id", Value: fmt.Sprint(i)}},
		}
		for {
			// Once begun it is seen through, so that we know what was accepted.
			try, cancel := context.WithTimeout(context.Background(), loadPatience)
			err := l.b.Publish(try, l.Log, r)
			cancel()
			if err == nil {
				break
			}
			if !errors.Is(err, backend.ErrUnavailable) || t.Context().Err() != nil {
				t.Errorf("Publish: %v", err)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		l.mu.Lock()
		l.accepted++
		l.mu.Unlock()
	}
}

func (l *Load) receive(t testing.TB, ctx context.Context, s backend.Subscription) {
	for {
		d, err := s.Receive(ctx)
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("Receive: %v", err)
			}
			return
		}
		l.check(t, d)
		if err := s.Ack(d); err != nil {
			t.Errorf("Ack: %v", err)
		}
	}
}

// check has first deliveries of a key come in order.
func (l *Load) check(t testing.TB, d *backend.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int
	if _, err := fmt.Sscan(string(d.Data), &n); err != nil {
		t.Errorf("received %q", d.Data)
	}
	if last, again := l.last[d.Key], l.seen[string(d.Data)]; l.ordered && !again {
		if n != last+loadKeys {
			t.Errorf("key %s: record %d came after %d", d.Key, n, last)
		}
		l.last[d.Key] = n
	}
	l.seen[string(d.Data)] = true
}

func (l *Load) count() (accepted, seen int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepted, len(l.seen)
}
