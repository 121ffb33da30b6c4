package kafkabackend

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// forEver is longer than a test: who waits for so long, fails.
const forEver = 10 * time.Minute

// topicsAsked counts how often a topic was to be made.
type topicsAsked struct {
	mu    sync.Mutex
	times map[string]int
}

func countTopics(fakes *kfake.Cluster) *topicsAsked {
	a := &topicsAsked{times: make(map[string]int)}
	fakes.ControlKey(int16(kmsg.CreateTopics), func(r kmsg.Request) (kmsg.Response, error, bool) {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, t := range r.(*kmsg.CreateTopicsRequest).Topics {
			a.times[t.Topic]++
		}
		return nil, nil, false
	})
	return a
}

// claimed is a log that somebody has claimed, and not made.
func claimed(t *testing.T, by *Backend) *logEntry {
	t.Helper()
	e, err := by.claimLog(ctxOf(t), backend.Log{Name: "test/" + newID()})
	must(t, err)
	return e
}

// ensuring is an EnsureLog that waits for another process.
func ensuring(ctx context.Context, t *testing.T, b *Backend, e *logEntry) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		got, err := b.EnsureLog(ctx, backend.Log{Name: string(e.Name)})
		if err == nil && string(got) != e.Incarnation {
			err = fmt.Errorf("incarnation %s, want %s", got, e.Incarnation)
		}
		done <- err
	}()
	eventually(t, "wait for the claimant", func() error {
		b.catalog.mu.Lock()
		defer b.catalog.mu.Unlock()
		if b.catalog.makers.waiting[string(e.Name)] == nil {
			return fmt.Errorf("nobody waits for log %s", e.Name)
		}
		return nil
	})
	return done
}

// Processes that start together ask for each topic once, and all can use it at once.
func TestEachTopicIsAskedForOnce(t *testing.T) {
	t.Parallel()
	const processes, logs = 3, 200
	fakes := startFake(t, 3)
	asked := countTopics(fakes)
	c := Config{Brokers: fakes.ListenAddrs(), Replicas: 3, Prefix: newPrefix(), AckWait: forEver}
	var working sync.WaitGroup
	var all [processes]*Backend
	for i := range all {
		all[i] = connectTo(t, c)
	}
	for p, b := range all {
		for i := range logs {
			working.Go(func() {
				ctx, name := ctxOf(t), fmt.Sprint("once/", (i+p*logs/processes)%logs)
				_, err := b.EnsureLog(ctx, backend.Log{Name: name})
				if err == nil {
					err = b.EnsureGroup(ctx, name, backend.Group{Name: "g"})
				}
				if err == nil {
					err = b.Publish(ctx, name, &backend.Record{})
				}
				if err != nil {
					t.Errorf("log %s: %v", name, err)
				}
			})
		}
	}
	working.Wait()
	asked.mu.Lock()
	defer asked.mu.Unlock()
	topics := 0
	for topic, times := range asked.times {
		if !strings.Contains(topic, ".once.") {
			continue
		}
		if topics++; times != 1 {
			t.Errorf("topic %s was asked for %d times, want once", topic, times)
		}
	}
	if topics != logs {
		t.Errorf("%d topics were asked for, want %d", topics, logs)
	}
}

func TestALogWhoseClaimantDiedIsMadeByWhoeverNeedsIt(t *testing.T) {
	t.Parallel()
	c := Config{Brokers: startFake(t, 1).ListenAddrs(), Prefix: newPrefix(), AckWait: time.Second}
	dead, b := connectTo(t, c), connectTo(t, c)
	e := claimed(t, dead)
	must(t, <-ensuring(ctxOf(t), t, b, e))
	publish(t, b, string(e.Name), "1")
	e = claimed(t, dead)
	publish(t, b, string(e.Name), "1")
	e = claimed(t, dead)
	must(t, b.EnsureGroup(ctxOf(t), string(e.Name), backend.Group{Name: "g"}))
}

func TestNobodyWaitsForAClaimantThatWasNotHeardOf(t *testing.T) {
	t.Parallel()
	c := Config{Brokers: startFake(t, 1).ListenAddrs(), Prefix: newPrefix(), AckWait: forEver}
	e := claimed(t, connectTo(t, c))
	b := connectTo(t, c)
	_, err := b.EnsureLog(ctxOf(t), backend.Log{Name: string(e.Name)})
	must(t, err)
	publish(t, b, string(e.Name), "1")
}

func TestNobodyWaitsForItself(t *testing.T) {
	t.Parallel()
	b := connectTo(t, Config{Brokers: startFake(t, 1).ListenAddrs(), AckWait: forEver})
	e := claimed(t, b) // and then its context ended, say
	_, err := b.EnsureLog(ctxOf(t), backend.Log{Name: string(e.Name)})
	must(t, err)
}

func TestWaitingForTheClaimantEnds(t *testing.T) {
	t.Parallel()
	c := Config{Brokers: startFake(t, 1).ListenAddrs(), Prefix: newPrefix(), AckWait: forEver}
	a, b := connectTo(t, c), connectTo(t, c)

	e := claimed(t, a)
	done := ensuring(ctxOf(t), t, b, e)
	_, err := a.makeLog(ctxOf(t), e)
	must(t, err)
	must(t, <-done)

	e = claimed(t, a)
	done = ensuring(ctxOf(t), t, b, e)
	must(t, a.DeleteLog(ctxOf(t), string(e.Name)))
	wantError(t, "of a log that is deleted", <-done, backend.ErrNotFound)

	e = claimed(t, a)
	ctx, cancel := context.WithCancel(ctxOf(t))
	done = ensuring(ctx, t, b, e)
	cancel()
	wantError(t, "with a context that ends", <-done, context.Canceled)

	done = ensuring(ctxOf(t), t, b, e)
	closeBackend(t, b)
	wantError(t, "of a backend that is closed", <-done, backend.ErrClosed)
}
