package natsbackend

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// turnsAtOnce is how many administrative requests of a process are under way.
	// A process that starts makes thousands at once, each bounded by RequestTimeout:
	// a broker that is busy would still answer each, but not all of them in
	// the time that it may take to answer one.
	turnsAtOnce = 64
	// gatherLimit is how long a change of what a stream takes waits for those logs whose
	// entries are being written: to change it costs the server more the more it takes,
	// so that it should be done once for all that a process makes at once.
	gatherLimit = time.Second
	// askTries is how often a question is put within the time that it may take.
	askTries = 5
	// lateTries is how often what can be done twice is begun when no answer came in time.
	lateTries = 3
)

// turns has requests wait for one another before their time begins.
type turns chan struct{}

// take waits for a turn, which the returned function ends.
func (t turns) take(ctx context.Context) (end func(), err error) {
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, contextError(ctx)
	}
}

// ask puts a question when its turn has come, anew when no answer comes: a node that
// dies takes its answers with it.
func ask[T any](ctx context.Context, t turns, limit time.Duration, question func(context.Context) (T, error)) (answer T, err error) {
	end, err := t.take(ctx)
	if err != nil {
		return answer, err
	}
	defer end()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		try, cancel := context.WithTimeout(ctx, limit/askTries)
		answer, err := question(try)
		cancel()
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return answer, err
		}
	}
}

// again tells whether what ended with an error, for the tries-th time, is to be begun
// again: the broker did not answer in time, and whoever called still waits.
func again(ctx context.Context, err error, tries int) bool {
	return tries < lateTries && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded)
}

// crowd is those who are on their way.
type crowd struct {
	mu   sync.Mutex
	n    int
	gone chan struct{} // closed when n is 0 again
}

func (c *crowd) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == 0 {
		c.gone = make(chan struct{})
	}
	c.n++
}

func (c *crowd) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n == 0 {
		close(c.gone)
	}
}

// wait returns when nobody is on the way, or after a while.
func (c *crowd) wait(ctx context.Context, limit time.Duration) {
	c.mu.Lock()
	n, gone := c.n, c.gone
	c.mu.Unlock()
	if n == 0 {
		return
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-gone:
	case <-t.C:
	case <-ctx.Done():
	}
}
