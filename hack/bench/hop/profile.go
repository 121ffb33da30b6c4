package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// The loads under which a profile can be taken.
const (
	loadFlow = "flow"
	loadHops = "hops"
)

var errNoProfile = errors.New("only contenders of Sidestep can be profiled")

// profile runs a contender under load, fetches its CPU profile, and prints
// where the time went.
func (b *bench) profile(ctx context.Context, c contender, o options) (err error) {
	if c.binary != binaryDispatcher {
		return fmt.Errorf("profile %s: %w", c.name, errNoProfile)
	}
	dir, err := os.MkdirTemp(b.dir, c.name+"-")
	if err != nil {
		return fmt.Errorf("make a folder for %s: %w", c.name, err)
	}
	p, err := b.startPair(ctx, c, dir)
	if err != nil {
		return err
	}
	defer p.stop()

	// The load lasts longer than the profile, so that all of the profile is
	// of it.
	b.say("profiling %s for %v …", c.name, o.profileFor)
	type fetched struct {
		body []byte
		err  error
	}
	result := make(chan fetched, 1)
	begin := func() {
		seconds := int(o.profileFor / time.Second)
		body, err := fetch(ctx, "http://"+p.admin+"/debug/pprof/profile?seconds="+strconv.Itoa(seconds))
		result <- fetched{body, err}
	}
	if err := p.underLoad(ctx, b.loads, c, o, begin); err != nil {
		return p.explain(err)
	}
	f := <-result
	if f.err != nil {
		return f.err
	}
	out := o.profileOut
	if out == "" {
		out = c.name + ".prof"
	}
	if err := os.WriteFile(out, f.body, 0o644); err != nil {
		return fmt.Errorf("write the profile: %w", err)
	}
	b.say("written to %s", out)
	top := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodecount=40", out)
	top.Stdout, top.Stderr = os.Stdout, os.Stderr
	if err := top.Run(); err != nil {
		return fmt.Errorf("read the profile: %w", err)
	}
	return nil
}

// underLoad warms the contender up, then runs begin beside a load that lasts a
// second longer than the profile.
func (p *pair) underLoad(ctx context.Context, l loads, c contender, o options, begin func()) error {
	warm, load, run := l.warm, l.flow, p.gen.Closed
	switch {
	case c.ingress:
		warm, load, run = l.ingressWarm, l.ingressFor, p.gen.Accept
	case o.profileLoad == loadHops:
		load.Clients = 1
	}
	if _, err := run(ctx, warm); err != nil {
		return err
	}
	load.For, load.Most = o.profileFor+time.Second, most
	go begin()
	r, err := run(ctx, load)
	if err == nil {
		fmt.Fprintf(os.Stderr, "%.0f per second meanwhile\n", r.PerSecond())
	}
	return err
}
