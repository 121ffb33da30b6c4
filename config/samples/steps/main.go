package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "steps:", err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "steps:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("bad usage")

// config is what the flags say.
type config struct {
	steps   []string
	listen  string
	out     string
	printer *printer
}

func parse(args []string, stdout, stderr io.Writer) (config, error) {
	var c config
	var step, output string
	var all bool
	fs := flag.NewFlagSet("steps", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&step, "step", "", "run one step: "+strings.Join(stepNames(), ", "))
	fs.BoolVar(&all, "all", false, "run all steps, on ports that follow one another")
	fs.StringVar(&c.listen, "listen", "127.0.0.1:9101", "`address` of the (first) step; port 0: a free one for each")
	fs.StringVar(&c.out, "out", filepath.Join(os.TempDir(), "sidestep-pictures"), "`folder` into which pictures are collected")
	fs.StringVar(&output, "output", "text", "text or json")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return c, err
		}
		return c, fmt.Errorf("%w: %w", errUsage, err)
	}
	switch {
	case fs.NArg() > 0:
		return c, fmt.Errorf("%w: unexpected %q", errUsage, fs.Arg(0))
	case all == (step != ""):
		return c, fmt.Errorf("%w: want --all or --step NAME", errUsage)
	case output != "text" && output != "json":
		return c, fmt.Errorf("%w: --output is text or json, not %q", errUsage, output)
	case all:
		c.steps = stepNames()
	default:
		c.steps = []string{step}
	}
	c.printer = &printer{w: stdout, json: output == "json"}
	return c, nil
}

// run serves the steps until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parse(args, stdout, stderr)
	if err != nil {
		return err
	}
	known := steps(c.out)
	servers := make([]*http.Server, len(c.steps))
	for i, name := range c.steps {
		step, ok := known[name]
		if !ok {
			return fmt.Errorf("%w: no step %q; there are %s", errUsage, name, strings.Join(stepNames(), ", "))
		}
		servers[i] = &http.Server{Handler: handler(name, step, c.printer), ReadHeaderTimeout: 10 * time.Second}
	}
	listeners, err := listen(ctx, c.listen, len(servers))
	if err != nil {
		return err
	}
	for i, l := range listeners {
		c.printer.listening(c.steps[i], "http://"+l.Addr().String())
	}
	return serve(ctx, servers, listeners)
}

// listen opens n listeners on ports that follow one another, or on any.
func listen(ctx context.Context, address string, n int) ([]net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("%w: --listen %q: %w", errUsage, address, err)
	}
	first, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%w: --listen %q: %w", errUsage, address, err)
	}
	var config net.ListenConfig
	var ls []net.Listener
	for i := range n {
		p := first
		if first != 0 {
			p += uint64(i)
		}
		l, err := config.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.FormatUint(p, 10)))
		if err != nil {
			for _, l := range ls {
				err = errors.Join(err, l.Close())
			}
			return nil, fmt.Errorf("listen: %w", err)
		}
		ls = append(ls, l)
	}
	return ls, nil
}

// serve runs the servers until ctx ends or one fails, lets them finish what
// they are at, and waits for all.
func serve(ctx context.Context, servers []*http.Server, listeners []net.Listener) error {
	failed := make(chan error, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() {
			if err := s.Serve(listeners[i]); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve: %w", err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	grace, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer done()
	for _, s := range servers {
		wg.Go(func() {
			if s.Shutdown(grace) != nil {
				_ = s.Close() // what is still running is cut off
			}
		})
	}
	wg.Wait()
	return err
}
