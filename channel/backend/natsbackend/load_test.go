package natsbackend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// load publishes to a log, and receives from it, until it is told to stop.
type load struct {
	b       *Backend
	log     string
	ordered bool

	stop, end             context.CancelFunc
	publishing, receiving sync.WaitGroup

	mu       sync.Mutex
	accepted int
	seen     map[string]bool
	last     map[string]int // of each key
}

const loadKeys = 4

func startLoad(t *testing.T, b *Backend, ordered bool) *load {
	t.Helper()
	l := &load{
		b: b, ordered: ordered, log: makeLog(t, b, ordered, "g"),
		seen: make(map[string]bool), last: make(map[string]int),
	}
	for i := range loadKeys {
		l.last[fmt.Sprint(i)] = i - loadKeys
	}
	sub := subscribe(t, b, l.log, "g", backend.Options{Window: 16})
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

// finish publishes no more, and waits until all that was accepted was received
// and settled.
func (l *load) finish(t *testing.T) {
	t.Helper()
	l.stop()
	l.publishing.Wait()
	eventually(t, "all that was accepted", func() error {
		if accepted, seen := l.count(); seen < accepted {
			return fmt.Errorf("%d of %d were received", seen, accepted)
		}
		return nil
	})
	eventually(t, "records", settled(t, l.b, l.log, "g"))
	l.end()
	l.receiving.Wait()
}

// publish never gives up a record: it is the ingress and its client in one.
func (l *load) publish(t *testing.T, ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		r := &backend.Record{
			Key: fmt.Sprint(i % loadKeys), Dedup: fmt.Sprint(i), Data: []byte(fmt.Sprint(i)),
			Header: head("ce-id", fmt.Sprint(i)),
		}
		for {
			// Once begun it is seen through, so that we know what was accepted.
			try, cancel := context.WithTimeout(context.Background(), patience)
			err := l.b.Publish(try, l.log, r)
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

func (l *load) receive(t *testing.T, ctx context.Context, s backend.Subscription) {
	for {
		d, err := s.Receive(ctx)
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("Receive: %v", err)
			}
			return
		}
		l.mu.Lock()
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
		l.mu.Unlock()
		if err := s.Ack(d); err != nil {
			t.Errorf("Ack: %v", err)
		}
	}
}

func (l *load) count() (accepted, seen int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepted, len(l.seen)
}

// goesOn waits until so many more records of each load were accepted and received.
func goesOn(t *testing.T, loads []*load, more int) {
	t.Helper()
	for _, l := range loads {
		accepted, seen := l.count()
		eventually(t, "records that go through", func() error {
			if a, s := l.count(); a < accepted+more || s < seen+more {
				return fmt.Errorf("ordered %v: %d more accepted and %d received, want %d", l.ordered, a-accepted, s-seen, more)
			}
			return nil
		})
	}
}
