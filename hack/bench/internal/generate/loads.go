package generate

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Load says how long a load lasts: For, or until Most events were posted,
// whichever comes first.
type Load struct {
	// Clients is how many events are in flight.
	Clients int
	For     time.Duration
	Most    int
}

// Result is what came of a load.
type Result struct {
	// Events is how many came through while the load lasted.
	Events  int
	Elapsed time.Duration
	// Total is how many came through in all: those too that were under way
	// when the load ended.
	Total int
	// Micros are the times from POST to answer, in microseconds; of Accept
	// only.
	Micros []float64
}

// PerSecond is the rate of events.
func (r Result) PerSecond() float64 { return float64(r.Events) / r.Elapsed.Seconds() }

// Sequential posts one event at a time, with the ids 0, 1, … whose times the
// steps note; it may be called once, for at most steps.Recorded events.
func (g *Generator) Sequential(ctx context.Context, l Load) (Result, error) {
	p := g.poster()
	defer p.close()
	var r Result
	began := time.Now()
	for r.Events < l.Most && time.Since(began) < l.For {
		id := uint32(r.Events)
		if err := p.post(id); err != nil {
			return r, err
		}
		for {
			arrived, err := g.arrival(ctx)
			if err != nil {
				return r, err
			}
			if arrived == id {
				break
			}
		}
		r.Events++
	}
	r.Total, r.Elapsed = r.Events, time.Since(began)
	return r, nil
}

// Closed keeps l.Clients events between their POST and their arrival at the
// last step. A contender that answers only after the last step has answered
// too is not waited for: there are workers enough to post meanwhile.
func (g *Generator) Closed(ctx context.Context, l Load) (Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tokens := make(chan struct{}, l.Clients)
	for range l.Clients {
		tokens <- struct{}{}
	}
	var workers sync.WaitGroup
	defer workers.Wait()
	for range 2 * l.Clients {
		workers.Go(func() {
			p := g.poster()
			defer p.close()
			for range tokens {
				if err := p.post(g.next.Add(1) - 1); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	return g.count(ctx, l, tokens)
}

// count turns arrivals into new tokens until the load has lasted long enough,
// then waits for what is under way. It closes tokens.
func (g *Generator) count(ctx context.Context, l Load, tokens chan<- struct{}) (Result, error) {
	var r Result
	began := time.Now()
	given := l.Clients
	for given < l.Most && time.Since(began) < l.For {
		if _, err := g.arrival(ctx); err != nil {
			close(tokens)
			return r, err
		}
		r.Events++
		tokens <- struct{}{}
		given++
	}
	r.Elapsed = time.Since(began)
	close(tokens)
	for r.Total = r.Events; r.Total < given; r.Total++ {
		if _, err := g.arrival(ctx); err != nil {
			return r, err
		}
	}
	return r, nil
}

// Accept has l.Clients clients post, each its next event when its last was
// answered.
func (g *Generator) Accept(ctx context.Context, l Load) (Result, error) {
	var (
		clients sync.WaitGroup
		taken   atomic.Int64
		micros  = make([][]float64, l.Clients)
		failed  = make([]error, l.Clients)
		began   = time.Now()
	)
	for c := range l.Clients {
		clients.Go(func() {
			p := g.poster()
			defer p.close()
			for time.Since(began) < l.For && ctx.Err() == nil && failed[c] == nil {
				if taken.Add(1) > int64(l.Most) {
					return
				}
				sent := time.Now()
				failed[c] = p.post(g.next.Add(1) - 1)
				micros[c] = append(micros[c], float64(time.Since(sent))/1e3)
			}
		})
	}
	clients.Wait()
	r := Result{Elapsed: time.Since(began)}
	for c := range l.Clients {
		if failed[c] != nil {
			return r, failed[c]
		}
		r.Micros = append(r.Micros, micros[c]...)
	}
	r.Events, r.Total = len(r.Micros), len(r.Micros)
	return r, context.Cause(ctx)
}
