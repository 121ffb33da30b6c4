package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/section"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("bad usage")

// The backends that channels are measured on.
const (
	embedded = "embedded"
	onNATS   = "nats"
	onKafka  = "kafka"
)

// options are what the flags say.
type options struct {
	backend    string
	replicas   []int
	channels   int
	dispatcher string
	write      string
	profiles   string
	idle, rest time.Duration
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("scale", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.backend, "backend", embedded, "`BACKEND` of the channels: embedded, nats or kafka")
	replicas := f.String("replicas", "1", "`NUMBERS` of dispatchers that share a broker, each measured by itself")
	f.IntVar(&o.channels, "channels", 5000, "`NUMBER` of channels, five of each Sequence")
	f.StringVar(&o.dispatcher, "dispatcher", "", "`PATH` of a dispatcher (default: it is built)")
	f.StringVar(&o.write, "write", "", "also write the table to this Markdown `FILE`, between its markers")
	f.StringVar(&o.profiles, "profiles", "", "`FOLDER` for heap, goroutine and CPU profiles at rest")
	f.DurationVar(&o.idle, "idle", 30*time.Second, "`DURATION` over which idle processor time is measured")
	f.DurationVar(&o.rest, "rest", 15*time.Second, "`DURATION` for which memory must not change, to be at rest")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w: %w", errUsage, err)
	}
	for s := range strings.SplitSeq(*replicas, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 1 && o.backend == embedded {
			return o, fmt.Errorf("%w: -replicas %s: want numbers, and 1 alone with the embedded store", errUsage, *replicas)
		}
		o.replicas = append(o.replicas, n)
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("%w: unexpected %q", errUsage, f.Arg(0))
	case o.backend != embedded && o.backend != onNATS && o.backend != onKafka:
		return o, fmt.Errorf("%w: -backend is %q, want embedded, nats or kafka", errUsage, o.backend)
	case o.channels < steps || o.channels%steps != 0:
		return o, fmt.Errorf("%w: -channels is %d, want a multiple of %d", errUsage, o.channels, steps)
	case o.idle < time.Second:
		return o, fmt.Errorf("%w: -idle is %v, want 1s or more", errUsage, o.idle)
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sidestep-scale-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.dispatcher == "" {
		o.dispatcher = filepath.Join(dir, "dispatcher")
		if err := process.BuildDispatcher(ctx, o.dispatcher); err != nil {
			return err
		}
	}
	r, err := measureAll(ctx, o, dir, stderr)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	fmt.Fprint(stdout, r.text())
	if o.write == "" {
		return nil
	}
	return section.Write(o.write, r.section(), r.markdown())
}
