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
	"syscall"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/machine"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/section"
)

// childArg is the first argument of this program as the relay.
const childArg = "relay"

// sectionName is that of the part of the document that is written.
const sectionName = "bench-payload"

// options are the command line.
type options struct {
	rounds int
	seed   uint64
	quick  bool
	only   string
	sizes  string
	pod    bool
	write  string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == childArg {
		exit(relay(os.Args[2:]))
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 10, "how often each contender is measured")
	flag.Uint64Var(&o.seed, "seed", 1, "what shuffles the contenders of a round")
	flag.BoolVar(&o.quick, "quick", false, "one round with small payloads: does it all work?")
	flag.StringVar(&o.only, "only", "", "measure these contenders, separated by commas")
	flag.StringVar(&o.sizes, "sizes", "", "measure these sizes, in KiB, separated by commas; the first is what the others are compared with")
	flag.BoolVar(&o.pod, "colocate", false, "measure what goes from step to step within a pod")
	flag.StringVar(&o.write, "write", "", "also write the report to this Markdown file, between its markers, and its plot beside it")
	flag.Parse()
	if flag.NArg() > 0 || o.rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(o.run(ctx))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "payload:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run builds, measures and reports.
func (o options) run(ctx context.Context) (err error) {
	for _, name := range []string{"GOMAXPROCS", "GOGC", "GOMEMLIMIT", "GODEBUG"} {
		if err := os.Unsetenv(name); err != nil {
			return fmt.Errorf("clear %s: %w", name, err)
		}
	}
	all := contenders()
	if o.pod {
		all = inPod()
	}
	wanted, err := choose(all, o.only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-payload-")
	if err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{dir: dir, progress: os.Stderr}
	if b.sizes, err = chooseSizes(o.sizes); err != nil {
		return err
	}
	if o.pod && o.sizes == "" {
		b.sizes = []int64{kib, mib, 16 * mib, 128 * mib, 512 * mib}
	}
	if o.quick {
		b.sizes, o.rounds = []int64{kib, 500 * kib, 2 * mib}, 1
	}
	if err := b.build(ctx); err != nil {
		return err
	}
	if b.steps, err = startSteps(); err != nil {
		return err
	}
	defer b.steps.stop()
	r, err := b.rounds(ctx, wanted, o.rounds, o.seed)
	if err != nil {
		return err
	}
	return o.report(r, machine.Describe(dir))
}

// report prints the results, and writes them to the file if there is one.
func (o options) report(r *results, on machine.Machine) error {
	const plotName = "perf-payload.png"
	name, text := sectionName, r.markdown(on, plotName)
	if o.pod {
		name, text = podSection, r.podMarkdown(on)
	}
	if _, err := io.WriteString(os.Stdout, text); err != nil {
		return err
	}
	if o.write == "" {
		return nil
	}
	if !o.pod {
		if err := r.plot(filepath.Join(filepath.Dir(o.write), plotName)); err != nil {
			return err
		}
	}
	return section.Write(o.write, name, text)
}

// build makes the programs.
func (b *bench) build(ctx context.Context) error {
	b.say("building")
	if err := process.BuildDispatcher(ctx, b.path("dispatcher")); err != nil {
		return err
	}
	if err := process.BuildSidecar(ctx, b.path("sidecar")); err != nil {
		return err
	}
	return process.BuildS3(ctx, b.path("s3"))
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }
