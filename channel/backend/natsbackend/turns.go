package natsbackend

import (
	"context"
	"errors"
	"time"
)

const (
	// turnsAtOnce is how many administrative requests of a process are under way.
	// A process that starts makes thousands at once, each bounded by RequestTimeout:
	// a broker that is busy would still answer each, but not all of them in
	// the time that it may take to answer one.
	turnsAtOnce = 128
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
