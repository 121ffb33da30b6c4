package balance

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Outlier says when a replica that fails is left out ("ejected"), and for how
// long. It is what Envoy's outlier detection does, from what chains tell and
// without probes. The zero value has the defaults.
type Outlier struct {
	// ConsecutiveFailures eject a replica; 5 if zero, never if negative.
	ConsecutiveFailures int
	// Interval is how often success rates are compared; 10s if zero.
	Interval time.Duration
	// MinRequests is how many chains a replica must have ended within an
	// interval, and MinReplicas how many such replicas there must be, for rates
	// to be compared; 100 and 5 if zero.
	MinRequests, MinReplicas int
	// Deviations is by how many standard deviations a success rate must be below
	// the mean to eject its replica; 1.9 if zero, never if negative.
	Deviations float64
	// BaseTime is how long a replica is left out for the first time; with each
	// further time in a row it is BaseTime more, up to MaxTime. 30s and 5min if
	// zero.
	BaseTime, MaxTime time.Duration
	// MaxShare of a set's replicas may be left out at once, and never the last
	// one; 0.5 if zero. When more of those that remain are, because others have
	// gone, nobody is left out: it is then more likely that all are well and
	// something between is not, and a chance is better than none.
	MaxShare float64
}

func (o *Outlier) validate() error {
	switch {
	case o.Interval < 0, o.BaseTime < 0, o.MaxTime < 0:
		return errors.New("times must not be negative")
	case o.MinRequests < 0, o.MinReplicas < 0:
		return errors.New("the fewest requests and replicas must not be negative")
	case math.IsNaN(o.Deviations):
		return errors.New("deviations: not a number")
	case !(o.MaxShare >= 0 && o.MaxShare <= 1):
		return fmt.Errorf("largest share: %v, want 0 to 1", o.MaxShare)
	}
	return nil
}

func (o *Outlier) setDefaults() {
	o.ConsecutiveFailures = or(o.ConsecutiveFailures, 5)
	o.Interval = or(o.Interval, 10*time.Second)
	o.MinRequests = or(o.MinRequests, 100)
	o.MinReplicas = or(o.MinReplicas, 5)
	o.Deviations = or(o.Deviations, 1.9)
	o.BaseTime = or(o.BaseTime, 30*time.Second)
	o.MaxTime = max(or(o.MaxTime, 5*time.Minute), o.BaseTime)
	o.MaxShare = or(o.MaxShare, 0.5)
}

// health is how a member did lately.
type health struct {
	until       atomic.Int64 // time.Duration: ejected until then
	consecutive atomic.Int32 // failures
	ok, ended   atomic.Int32 // in this interval

	// Guarded by sweep.mu.
	times int // ejected in a row: a time in health takes one back
}

func (h *health) ejected(now time.Duration) bool { return h.until.Load() > int64(now) }

// sweep compares success rates from time to time, and ejects.
type sweep struct {
	next    atomic.Int64 // time.Duration: when to compare again
	ejected atomic.Int64 // time.Duration: until then somebody is left out

	mu sync.Mutex
}

// account notes one end of a chain that tells of the replica's health.
func (s *Set) account(m *member, now time.Duration, ok bool) {
	h, cfg := &m.health, &s.b.cfg.Outlier
	h.ended.Add(1)
	if ok {
		h.ok.Add(1)
		if h.consecutive.Load() != 0 {
			h.consecutive.Store(0)
		}
	} else if n := h.consecutive.Add(1); cfg.ConsecutiveFailures > 0 && int(n) >= cfg.ConsecutiveFailures && !h.ejected(now) {
		s.eject(m, now)
	}
	if next := s.sweep.next.Load(); int64(now) >= next && s.sweep.next.CompareAndSwap(next, int64(now+cfg.Interval)) && next != 0 {
		s.compareRates(now)
	}
}

// eject leaves a member out, if as many may be.
func (s *Set) eject(m *member, now time.Duration) {
	s.sweep.mu.Lock()
	defer s.sweep.mu.Unlock()
	h, cfg := &m.health, &s.b.cfg.Outlier
	all := s.state.Load().all
	if h.ejected(now) || countEjected(all, now)+1 > mayEject(len(all.candidates), cfg.MaxShare) {
		return
	}
	// Each interval in health since the last time takes one back.
	if last := time.Duration(h.until.Load()); h.times > 0 {
		h.times = max(0, h.times-int((now-last)/cfg.Interval))
	}
	h.times++
	d := cfg.MaxTime
	if h.times < int(cfg.MaxTime/cfg.BaseTime) {
		d = cfg.BaseTime * time.Duration(h.times)
	}
	h.until.Store(int64(now + d))
	s.sweep.ejected.Store(max(s.sweep.ejected.Load(), int64(now+d)))
	// It comes back on probation: the next failure ejects it, a success clears it.
	h.consecutive.Store(int32(max(0, cfg.ConsecutiveFailures-1)))
	if s.b.cfg.Ejected != nil {
		s.b.cfg.Ejected(m.id, d)
	}
}

// compareRates ejects the members whose success rate is far below the mean.
func (s *Set) compareRates(now time.Duration) {
	cfg := &s.b.cfg.Outlier
	cs := s.state.Load().all.candidates
	rates := make([]float64, 0, len(cs))
	members := make([]*member, 0, len(cs))
	for _, c := range cs {
		ended, ok := c.health.ended.Swap(0), c.health.ok.Swap(0)
		if int(ended) >= cfg.MinRequests && !c.health.ejected(now) {
			rates, members = append(rates, float64(ok)/float64(ended)), append(members, c.member)
		}
	}
	if len(rates) < cfg.MinReplicas || cfg.Deviations < 0 {
		return
	}
	mean, deviation := spread(rates)
	for i, m := range members {
		if rates[i] < mean-cfg.Deviations*deviation {
			s.eject(m, now)
		}
	}
}

// spread is the mean and the standard deviation.
func spread(vs []float64) (mean, deviation float64) {
	for _, v := range vs {
		mean += v / float64(len(vs))
	}
	for _, v := range vs {
		deviation += (v - mean) * (v - mean) / float64(len(vs))
	}
	return mean, math.Sqrt(deviation)
}

// panics tells whether more are ejected than may be, as others have gone.
func (s *Set) panics(st *state, now time.Duration) bool {
	if s.sweep.ejected.Load() <= int64(now) {
		return false
	}
	n := len(st.all.candidates)
	return countEjected(st.all, now) > mayEject(n, s.b.cfg.Outlier.MaxShare)
}

func countEjected(t *tier, now time.Duration) (n int) {
	for _, c := range t.candidates {
		if c.health.ejected(now) {
			n++
		}
	}
	return n
}

// mayEject is how many of n replicas may be left out at once: always one of
// two or more, and never all.
func mayEject(n int, share float64) int {
	return min(max(1, int(share*float64(n))), n-1)
}
