package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
)

const manifestsFile = "channels.yaml"

// fewChannels are those of the dispatcher that many are compared with.
const fewChannels = 50

// start of dispatchers, measured until they have stopped; of several the most.
type start struct {
	ready       time.Duration
	spent       time.Duration // processor time until then
	goroutines  int
	idle        int64   // resident bytes with nothing done yet
	cpu         float64 // of one core, while idle
	used        int64   // resident bytes after an event to every channel
	peak        int64   // most bytes resident at any time
	connections int     // to the broker, after that
	events      time.Duration
	delivered   time.Duration
	stop        time.Duration
}

// variant is so many dispatchers, started twice on the same data.
type variant struct {
	replicas int
	starts   [2]start
	// Of several: from the death of one until every channel's next event has come, and
	// until all of these were accepted.
	failover, accepted time.Duration
}

// measureAll measures each number of dispatchers, on a broker of its own.
func measureAll(ctx context.Context, o options, dir string, progress io.Writer) (result, error) {
	r := result{backend: o.backend, channels: o.channels, machine: machine()}
	if o.backend == onKafka {
		var err error
		if r.topics, err = makeTopics(ctx, filepath.Join(dir, "topics"), o.channels); err != nil {
			return r, fmt.Errorf("another client's topics: %w", err)
		}
		fmt.Fprintf(progress, "another client made %d topics in %v\n", o.channels, r.topics.Round(time.Millisecond))
	}
	for _, n := range o.replicas {
		say := func(format string, v ...any) {
			fmt.Fprintf(progress, "%s, %d: %s\n", o.backend, n, fmt.Sprintf(format, v...))
		}
		v, few, err := measure(ctx, o, n, filepath.Join(dir, fmt.Sprint(n)), say)
		if err != nil {
			return r, fmt.Errorf("%d on %s: %w", n, o.backend, err)
		}
		r.variants, r.few = append(r.variants, v), max(r.few, few)
	}
	return r, nil
}

// measure also tells how many connections to the broker a dispatcher with few
// channels has.
func measure(ctx context.Context, o options, replicas int, dir string, say func(string, ...any)) (v variant, few int, err error) {
	v.replicas = replicas
	b, err := startBroker(ctx, o.backend, dir)
	if err != nil {
		return v, 0, err
	}
	defer b.stop()
	s, err := startStep()
	if err != nil {
		return v, 0, err
	}
	defer s.close()
	if b.address != "" {
		if few, err = connectionsOfFew(ctx, o, b, s, filepath.Join(dir, "few")); err != nil {
			return v, 0, fmt.Errorf("with %d channels: %w", fewChannels, err)
		}
		say("%d connections with %d channels", few, fewChannels)
	}
	if err := writeManifests(filepath.Join(dir, manifestsFile), namespace, o.channels, s.url, b.config); err != nil {
		return v, 0, err
	}
	for i := range v.starts {
		m := &meter{
			options: o, dir: dir, step: s, broker: b, round: i,
			say: func(format string, a ...any) {
				say("start %d of %d: %s", i+1, len(v.starts), fmt.Sprintf(format, a...))
			},
		}
		if err := m.run(ctx, &v); err != nil {
			return v, 0, fmt.Errorf("start %d: %w", i+1, err)
		}
	}
	return v, few, nil
}

// connectionsOfFew starts a dispatcher whose channels are others than those that are
// measured, in name and key.
func connectionsOfFew(ctx context.Context, o options, b *broker, s *step, dir string) (int, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	if err := writeManifests(filepath.Join(dir, manifestsFile), fewNamespace, fewChannels, s.url, b.config); err != nil {
		return 0, err
	}
	c, _, err := startChild(ctx, o.dispatcher, dir, "data", fewChannels)
	if err != nil {
		return 0, err
	}
	defer c.kill()
	if _, _, err := s.through(ctx, channelURLs(fewNamespace, fewChannels, c.base), "few"); err != nil {
		return 0, err
	}
	n, err := c.connections(b.address)
	if err != nil {
		return 0, err
	}
	_, err = c.stop()
	return n, err
}

// meter measures one start.
type meter struct {
	options
	dir      string
	step     *step
	broker   *broker
	say      func(format string, v ...any)
	round    int
	children []*child
}

func (m *meter) run(ctx context.Context, v *variant) (err error) {
	s := &v.starts[m.round]
	m.say("waiting until all are ready")
	defer func() {
		for _, c := range m.children {
			c.kill()
		}
	}()
	if s.ready, err = m.start(ctx, v.replicas); err != nil {
		return err
	}
	m.say("ready after %v", s.ready.Round(time.Millisecond))
	for _, c := range m.children {
		spent, err := process.CPU(c.pid())
		if err != nil {
			return err
		}
		s.spent = max(s.spent, spent)
	}
	if err := m.idleCost(ctx, s); err != nil {
		return err
	}
	if err := m.profile(ctx); err != nil {
		return err
	}
	m.say("one event to every channel")
	if s.events, s.delivered, err = m.step.through(ctx, m.urls(), fmt.Sprint("start", m.round)); err != nil {
		return err
	}
	if err := m.usedCost(ctx, s); err != nil {
		return err
	}
	if v.replicas > 1 && m.round == len(v.starts)-1 {
		if err := m.failover(ctx, v); err != nil {
			return err
		}
	}
	m.say("stopping")
	s.stop, err = m.stop()
	return err
}

// start starts all dispatchers at once, and returns how long it took until the
// last of them was ready.
func (m *meter) start(ctx context.Context, n int) (time.Duration, error) {
	type started struct {
		c    *child
		took time.Duration
		err  error
	}
	all := make(chan started)
	for i := range n {
		go func() {
			c, took, err := startChild(ctx, m.dispatcher, m.dir, fmt.Sprint("data", i), m.channels)
			all <- started{c, took, err}
		}()
	}
	var last time.Duration
	var errs []error
	for range n {
		s := <-all
		if errs = append(errs, s.err); s.err == nil {
			m.children = append(m.children, s.c)
			last = max(last, s.took)
		}
	}
	return last, errors.Join(errs...)
}

// urls of all channels.
func (m *meter) urls() []string {
	bases := make([]string, len(m.children))
	for i, c := range m.children {
		bases[i] = c.base
	}
	return channelURLs(namespace, m.channels, bases...)
}

// failover kills one of the dispatchers, and has the others take an event for every
// channel at once.
func (m *meter) failover(ctx context.Context, v *variant) error {
	m.say("killing one")
	began := time.Now()
	m.children[0].kill()
	m.children = m.children[1:]
	accepted, _, err := m.step.through(ctx, m.urls(), "killed")
	if err != nil {
		return err
	}
	v.accepted, v.failover = accepted, time.Since(began)
	m.say("all is delivered from %v after its death", v.failover.Round(time.Millisecond))
	return nil
}

func (m *meter) stop() (last time.Duration, err error) {
	began := time.Now()
	stopped := make(chan error)
	for _, c := range m.children {
		go func() {
			_, err := c.stop()
			stopped <- err
		}()
	}
	for range m.children {
		err = errors.Join(err, <-stopped)
	}
	return time.Since(began), err
}
