package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
)

var errProfile = errors.New("not in the known format")

// Memory has come to rest when it has not changed by more than restShare for a
// while: longer than the dispatcher waits after a start before it gives back what
// it no longer needs (10 s). After restLimit what it is then is taken.
const (
	restShare = 0.01
	restLimit = time.Minute
)

// idleCost is that of dispatchers that have nothing to do.
func (m *meter) idleCost(ctx context.Context, s *start) (err error) {
	if s.idle, err = m.atRest(ctx); err != nil {
		return err
	}
	m.say("%s resident; idle for %v", mebibytes(s.idle), m.idle)
	before := make([]time.Duration, len(m.children))
	for i, c := range m.children {
		n, err := c.goroutines(ctx)
		if err != nil {
			return err
		}
		s.goroutines = max(s.goroutines, n)
		if before[i], err = process.CPU(c.pid()); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := pause(ctx, m.idle); err != nil {
		return err
	}
	for i, c := range m.children {
		after, err := process.CPU(c.pid())
		if err != nil {
			return err
		}
		s.cpu = max(s.cpu, float64(after-before[i])/float64(time.Since(began)))
	}
	m.say("%s of a core", percent(s.cpu))
	return nil
}

// usedCost is theirs once they have delivered events.
func (m *meter) usedCost(ctx context.Context, s *start) (err error) {
	if s.used, err = m.atRest(ctx); err != nil {
		return err
	}
	for _, c := range m.children {
		peak, err := process.Memory(c.pid(), process.Peak)
		if err != nil {
			return err
		}
		s.peak = max(s.peak, peak)
		if m.broker.address == "" {
			continue
		}
		n, err := c.connections(m.broker.address)
		if err != nil {
			return err
		}
		s.connections = max(s.connections, n)
	}
	return nil
}

// atRest is the most resident memory once that of none changes any more.
func (m *meter) atRest(ctx context.Context) (most int64, err error) {
	deadline := time.Now().Add(restLimit)
	last, since := make([]int64, len(m.children)), time.Now()
	for {
		now := time.Now()
		most = 0
		for i, c := range m.children {
			n, err := process.Memory(c.pid(), process.Resident)
			if err != nil {
				return 0, err
			}
			if abs(n-last[i]) > int64(restShare*float64(last[i])) {
				last[i], since = n, now
			}
			most = max(most, n)
		}
		if now.Sub(since) > m.rest || now.After(deadline) {
			return most, nil
		}
		if err := pause(ctx, time.Second/4); err != nil {
			return 0, err
		}
	}
}

func abs(n int64) int64 { return max(n, -n) }

// goroutines reads "goroutine profile: total 123".
func (c *child) goroutines(ctx context.Context) (int, error) {
	body, err := c.get(ctx, "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(body), "\n")
	n, err := strconv.Atoi(first[strings.LastIndexByte(first, ' ')+1:])
	if err != nil {
		return 0, fmt.Errorf("goroutines in %q: %w", first, errProfile)
	}
	return n, nil
}

// connections counts those to a TCP address.
func (c *child) connections(to string) (int, error) { return process.Connections(c.pid(), to) }

// profile keeps profiles of the first dispatcher, if they are wanted.
func (m *meter) profile(ctx context.Context) error {
	if m.profiles == "" {
		return nil
	}
	m.say("profiles to %s", m.profiles)
	if err := os.MkdirAll(m.profiles, 0o755); err != nil {
		return err
	}
	var errs []error
	for name, path := range map[string]string{
		"heap": "/debug/pprof/heap?gc=1", "goroutine": "/debug/pprof/goroutine",
		"cpu": fmt.Sprintf("/debug/pprof/profile?seconds=%.0f", m.idle.Seconds()),
	} {
		body, err := m.children[0].get(ctx, path)
		if err == nil {
			name = fmt.Sprintf("%s-%d-start%d-%s.pprof", m.backend, len(m.children), m.round+1, name)
			err = os.WriteFile(filepath.Join(m.profiles, name), body, 0o644)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
