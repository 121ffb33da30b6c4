package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
)

var errProfile = errors.New("not in the known format")

const manifestsFile = "channels.yaml"

// Memory has come to rest when it has not changed by more than restShare for a
// while: longer than the dispatcher waits after a start before it gives back what
// it no longer needs (10 s). After restLimit what it is then is taken.
const (
	restShare = 0.01
	restLimit = time.Minute
)

// start of a dispatcher, measured until it has stopped.
type start struct {
	ready      time.Duration
	goroutines int
	idle       int64   // resident bytes with nothing done yet
	cpu        float64 // of one core, while idle
	used       int64   // resident bytes after an event to every channel
	peak       int64   // most bytes resident at any time
	events     time.Duration
	stop       time.Duration
}

// measure starts the dispatcher twice on the same data.
func measure(ctx context.Context, o options, dir string, progress io.Writer) (result, error) {
	r := result{channels: o.channels, machine: machine()}
	s, err := startStep()
	if err != nil {
		return r, err
	}
	defer s.close()
	if err := writeManifests(filepath.Join(dir, manifestsFile), o.channels, s.url); err != nil {
		return r, err
	}
	for i := range r.starts {
		say := func(format string, v ...any) {
			fmt.Fprintf(progress, "start %d of %d: %s\n", i+1, len(r.starts), fmt.Sprintf(format, v...))
		}
		m := &meter{options: o, dir: dir, step: s, say: say, round: i}
		if err := m.run(ctx, &r.starts[i]); err != nil {
			return r, fmt.Errorf("start %d: %w", i+1, err)
		}
	}
	return r, nil
}

// meter measures one start.
type meter struct {
	options
	dir   string
	step  *step
	say   func(format string, v ...any)
	round int
	child *child
}

func (m *meter) run(ctx context.Context, s *start) (err error) {
	m.say("waiting until it is ready")
	if m.child, s.ready, err = startChild(ctx, m.dispatcher, m.dir, m.channels); err != nil {
		return err
	}
	defer m.child.kill()
	m.say("ready after %v", s.ready.Round(time.Millisecond))
	if err := m.idleCost(ctx, s); err != nil {
		return err
	}
	if err := m.profile(ctx); err != nil {
		return err
	}
	m.say("one event to every channel")
	if s.events, err = post(ctx, m.child.urls, fmt.Sprint("start", m.round)); err != nil {
		return err
	}
	if err := m.step.wait(ctx, (m.round+1)*m.channels); err != nil {
		return err
	}
	if s.used, err = m.atRest(ctx); err != nil {
		return err
	}
	if s.peak, err = process.Memory(m.child.pid(), process.Peak); err != nil {
		return err
	}
	m.say("stopping")
	s.stop, err = m.child.stop()
	return err
}

func (m *meter) idleCost(ctx context.Context, s *start) (err error) {
	if s.idle, err = m.atRest(ctx); err != nil {
		return err
	}
	m.say("%s resident; idle for %v", mebibytes(s.idle), m.idle)
	if s.goroutines, err = m.goroutines(ctx); err != nil {
		return err
	}
	before, err := process.CPU(m.child.pid())
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pause(ctx, m.idle); err != nil {
		return err
	}
	after, err := process.CPU(m.child.pid())
	s.cpu = float64(after-before) / float64(time.Since(began))
	return err
}

// atRest is the resident memory once it does not change any more.
func (m *meter) atRest(ctx context.Context) (int64, error) {
	deadline := time.Now().Add(restLimit)
	last, since := int64(0), time.Now()
	for {
		n, err := process.Memory(m.child.pid(), process.Resident)
		if err != nil {
			return 0, err
		}
		switch now := time.Now(); {
		case abs(n-last) > int64(restShare*float64(last)):
			last, since = n, now
		case now.Sub(since) > m.rest, now.After(deadline):
			return n, nil
		}
		if err := pause(ctx, time.Second/4); err != nil {
			return 0, err
		}
	}
}

func abs(n int64) int64 { return max(n, -n) }

// goroutines reads "goroutine profile: total 123".
func (m *meter) goroutines(ctx context.Context) (int, error) {
	body, err := m.child.get(ctx, "/debug/pprof/goroutine?debug=1")
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

// profile keeps profiles of the second start, if they are wanted.
func (m *meter) profile(ctx context.Context) error {
	if m.profiles == "" || m.round == 0 {
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
		body, err := m.child.get(ctx, path)
		if err == nil {
			err = os.WriteFile(filepath.Join(m.profiles, name+".pprof"), body, 0o644)
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
