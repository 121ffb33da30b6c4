package backendtest

import (
	"context"
	"sync"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// collector gathers what the members of a group receive.
type collector struct {
	t    testing.TB
	stop context.CancelFunc
	done context.Context // ends when enough was received

	mu   sync.Mutex
	got  []string
	seen map[string]int
	more chan struct{} // closed and replaced at every record
}

func newCollector(f *fixture) *collector {
	c := &collector{t: f, seen: make(map[string]int), more: make(chan struct{})}
	c.done, c.stop = context.WithCancel(f.Context())
	f.Cleanup(c.stop)
	return c
}

// receiveAndAck takes what comes to sub until enough was received.
func (c *collector) receiveAndAck(ctx context.Context, sub backend.Subscription) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.done, cancel)()
	for {
		d, err := sub.Receive(ctx)
		if err != nil {
			if ctx.Err() == nil {
				c.t.Errorf("Receive: %v", err)
			}
			return
		}
		c.add(idOf(d))
		if err := sub.Ack(d); err != nil {
			c.t.Errorf("Ack: %v", err)
		}
	}
}

func (c *collector) add(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, id)
	c.seen[id]++
	close(c.more)
	c.more = make(chan struct{})
}

func (c *collector) distinct() (int, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen), c.more
}

// wait returns when n different records were received.
func (c *collector) wait(ctx context.Context, n int) bool {
	for {
		have, more := c.distinct()
		if have >= n {
			return true
		}
		select {
		case <-more:
		case <-ctx.Done():
			c.t.Errorf("%d different records received, want %d", have, n)
			return false
		}
	}
}

// waitFor waits for n different records, and then ends the members.
func (c *collector) waitFor(ctx context.Context, n int) {
	defer c.stop()
	c.wait(ctx, n)
}

// collect receives and acks until n different records came, those already seen
// included.
func (f *fixture) collect(sub backend.Subscription, n int, seen ...string) *collector {
	f.Helper()
	c := newCollector(f)
	for _, id := range seen {
		c.add(id)
	}
	ctx := f.ctx()
	var member sync.WaitGroup
	member.Go(func() { c.receiveAndAck(ctx, sub) })
	c.waitFor(ctx, n)
	member.Wait()
	return c
}

func (c *collector) ids() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.got...)
}

// unique is each id once, however often it came.
func (c *collector) unique() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var s []string
	for id := range c.seen {
		s = append(s, id)
	}
	return s
}
