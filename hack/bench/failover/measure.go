package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
)

const (
	patience = 5 * time.Minute
	// rest is how long the members are left alone before their cost is read: they
	// give back what they no longer need.
	rest = 15 * time.Second
	// idle is how long their processor time is measured.
	idle = 20 * time.Second
)

// result is what was measured on one broker.
type result struct {
	ready    time.Duration // the members' start, one after the other
	failover time.Duration // until every log's record has come
	half     time.Duration // until half of those have that came later than usual
	late     int           // logs whose record came later than usual
	members  []cost
}

// cost of a process while all logs are idle.
type cost struct {
	memory      int64 // resident
	connections int
	cpu         float64 // of a core
}

// usual is how long a record takes at most if nobody died.
const usual = time.Second

func measure(ctx context.Context, o options, kind, target string, progress io.Writer) (r result, err error) {
	say := func(format string, v ...any) { fmt.Fprintf(progress, kind+": "+format+"\n", v...) }
	b, err := connect(ctx, kind, target)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.Close(context.WithoutCancel(ctx))) }()
	say("making %d logs", o.logs)
	if err := each(o.logs, func(i int) error {
		if _, err := b.EnsureLog(ctx, backend.Log{Name: logName(i)}); err != nil {
			return err
		}
		return b.EnsureGroup(ctx, logName(i), backend.Group{Name: group})
	}); err != nil {
		return r, err
	}
	f, err := startFleet(ctx, o, kind, target, &r)
	if err != nil {
		return r, err
	}
	defer f.stop()
	say("%d processes ready after %v", o.processes, r.ready.Round(time.Millisecond))
	if err := f.round(ctx, b, "before", o.logs, nil); err != nil {
		return r, err
	}
	say("idle")
	if r.members, err = f.costs(ctx); err != nil {
		return r, err
	}
	say("killing one")
	begun := time.Now()
	f.members[0].Stop()
	var came []time.Duration
	err = f.round(ctx, b, "after", o.logs, func() { came = append(came, time.Since(begun)) })
	if err != nil {
		return r, err
	}
	r.failover = came[len(came)-1]
	for i, at := range came {
		if at > usual {
			late := came[i:]
			r.late, r.half = len(late), late[len(late)/2]
			break
		}
	}
	say("all came after %v; %d of them later than %v", r.failover.Round(time.Millisecond), r.late, usual)
	return r, nil
}

// fleet is the members.
type fleet struct {
	members []*process.Child
	reading sync.WaitGroup
	came    chan string
}

func startFleet(ctx context.Context, o options, kind, target string, r *result) (*fleet, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	f := &fleet{came: make(chan string, o.logs)}
	begun := time.Now()
	for i := range o.processes {
		m, err := process.Start(ctx, process.Command{
			Name: fmt.Sprintf("member %d", i+1), Path: self,
			Args: []string{"-member", kind, "-target", target, "-logs", fmt.Sprint(o.logs)},
		})
		if err != nil {
			f.stop()
			return nil, err
		}
		f.members = append(f.members, m)
		f.reading.Go(func() {
			for lines := bufio.NewScanner(m.Stdout); lines.Scan(); {
				f.came <- lines.Text()
			}
		})
	}
	r.ready = time.Since(begun)
	return f, nil
}

func (f *fleet) stop() {
	for _, m := range f.members {
		m.Stop()
	}
	go func() {
		for range f.came { //nolint:revive // what came late
		}
	}()
	f.reading.Wait()
	close(f.came)
}

// round publishes a record to each log, and calls each for every one that came.
func (f *fleet) round(ctx context.Context, b backend.Backend, name string, n int, came func()) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("in vain"))
	defer cancel()
	published := make(chan error, 1)
	go func() {
		published <- each(n, func(i int) error {
			return b.Publish(ctx, logName(i), &backend.Record{Data: fmt.Appendf(nil, "%s %d", name, i)})
		})
	}()
	seen := make(map[string]bool)
	for len(seen) < n {
		select {
		case id := <-f.came:
			if strings.HasPrefix(id, name+" ") && !seen[id] {
				seen[id] = true
				if came != nil {
					came()
				}
			}
		case <-ctx.Done():
			return fmt.Errorf("%d of %d records came: %w", len(seen), n, errors.Join(context.Cause(ctx), <-published))
		}
	}
	return <-published
}

// costs are those of all members.
func (f *fleet) costs(ctx context.Context) ([]cost, error) {
	if err := pause(ctx, rest); err != nil {
		return nil, err
	}
	costs := make([]cost, len(f.members))
	for i, m := range f.members {
		used, err := m.CPU()
		if err != nil {
			return nil, err
		}
		costs[i].cpu = -used.Seconds()
	}
	if err := pause(ctx, idle); err != nil {
		return nil, err
	}
	for i, m := range f.members {
		used, err := m.CPU()
		if err != nil {
			return nil, err
		}
		costs[i].cpu = (costs[i].cpu + used.Seconds()) / idle.Seconds()
		if costs[i].memory, err = process.Memory(m.PID(), process.Resident); err != nil {
			return nil, err
		}
		if costs[i].connections, err = connections(m.PID()); err != nil {
			return nil, err
		}
	}
	return costs, nil
}

// connections counts a process's sockets.
func connections(pid int) (n int, err error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	files, err := os.ReadDir(dir)
	for _, f := range files {
		if to, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
