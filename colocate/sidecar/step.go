package sidecar

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// step is a port that may be called: a bounded number of calls at a time, and
// those that wait for one to end, first come first served.
type step struct {
	name    string // the port: what reports call it
	address string
	places  chan struct{} // one for each call under way
	waiting atomic.Int64
	service atomic.Uint64 // float64: seconds that a call takes, on average
}

func newStep(p Port, name string, most int) *step {
	return &step{name: name, address: p.Address(), places: make(chan struct{}, most)}
}

// try takes a place if there is one. Who waits is served before.
func (s *step) try() bool {
	select {
	case s.places <- struct{}{}:
		return true
	default:
		return false
	}
}

// wait takes a place within d; false: there was none, or ctx has ended.
func (s *step) wait(ctx context.Context, d time.Duration) bool {
	if s.try() {
		return true
	}
	if d <= 0 {
		return false
	}
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case s.places <- struct{}{}:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// leave gives a place back.
func (s *step) leave() { <-s.places }

// weight of a new call in the average.
const weight = 1. / 16

// learn takes the time of a call that was answered.
func (s *step) learn(took time.Duration) {
	for {
		old := s.service.Load()
		avg := math.Float64frombits(old)
		if old == 0 {
			avg = took.Seconds()
		}
		avg += (took.Seconds() - avg) * weight
		if s.service.CompareAndSwap(old, math.Float64bits(avg)) {
			return
		}
	}
}
