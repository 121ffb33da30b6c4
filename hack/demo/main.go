package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// limit bounds the demo once everything is built: it takes a few seconds.
const limit = 60 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

var (
	errUsage       = errors.New("bad usage")
	errInterrupted = errors.New("interrupted")
	errTooLong     = fmt.Errorf("not over after %v", limit)
)

// options are what the flags say.
type options struct {
	stay  bool
	plain bool
	data  string
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.BoolVar(&o.stay, "stay", false, "stay up after the demo, and show events as they come")
	fs.BoolVar(&o.plain, "plain", false, "no colour, nothing that moves, ASCII only")
	fs.StringVar(&o.data, "data", "", "`folder` for the log and the pictures (default: a temporary one)")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w: %w", errUsage, err)
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("%w: unexpected %q", errUsage, fs.Arg(0))
	}
	return o, nil
}

// run builds, starts, shows and cleans up; what goes wrong on the way, and in
// cleaning up, is in the error.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	s := newScreen(stdout, o.plain)
	s.printf("\n%s\n\n", s.bold("Sidestep: a Knative Sequence on a durable log, in one process"))
	f, err := makeFolders(o.data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.clean()) }()
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	if err := buildAll(ctx, s, root, f.bin); err != nil {
		return cause(ctx, err)
	}

	// From here on a child that ends, or the limit, ends everything.
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	guard := time.AfterFunc(limit, func() { fail(errTooLong) })
	defer guard.Stop()
	st, err := raise(ctx, fail, s, root, f)
	defer func() { err = errors.Join(err, st.strike()) }()
	if err != nil {
		return cause(ctx, err)
	}
	if err := st.play(ctx); err != nil {
		endsSoon(ctx)
		return cause(ctx, err)
	}
	if !o.stay {
		return nil
	}
	guard.Stop()
	return st.stay(ctx)
}

// cause is why ctx ended, if it did: errors that follow from that explain
// nothing.
func cause(ctx context.Context, err error) error {
	switch c := context.Cause(ctx); {
	case c == nil:
		return err
	case interrupted(c):
		return errInterrupted
	default:
		return c
	}
}

// interrupted tells that it was the user who ended the context: what cancels
// for another reason says which.
func interrupted(c error) bool { return errors.Is(c, context.Canceled) }
