package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/generate"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/machine"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/section"
)

// childArg is the first argument of this program as a child.
const childArg = "child"

// options are the command line.
type options struct {
	rounds      int
	seed        uint64
	quick       bool
	only        string
	colocate    bool
	write       string
	profile     string
	profileLoad string
	profileFor  time.Duration
	profileOut  string
}

var errUsage = errors.New("usage")

func main() {
	if len(os.Args) > 2 && os.Args[1] == childArg {
		exit(runRole(os.Args[2:]))
	}
	o, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "hop:", err)
			os.Exit(2)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(o.run(ctx))
}

// exit ends the process; children and temporary files are gone already.
func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "hop:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func parse(args []string, help io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("hop", flag.ContinueOnError)
	f.SetOutput(help)
	f.IntVar(&o.rounds, "rounds", 10, "how often each contender is measured")
	f.Uint64Var(&o.seed, "seed", 1, "what shuffles the contenders of a round")
	f.BoolVar(&o.quick, "quick", false, "one round with a few events: does it all work?")
	f.StringVar(&o.only, "only", "", "measure these contenders, separated by commas: "+strings.Join(names(contenders()), ","))
	f.BoolVar(&o.colocate, "colocate", false, "measure Sidestep with all steps in one pod, beside "+colocateBeside)
	f.StringVar(&o.write, "write", "", "also write the report to this Markdown file, between its markers")
	f.StringVar(&o.profile, "profile", "", "instead of measuring, take a CPU profile of this contender of Sidestep")
	f.StringVar(&o.profileLoad, "profile-load", loadFlow, "what it does meanwhile: "+loadFlow+" (32 in flight) or "+loadHops+" (one at a time)")
	f.DurationVar(&o.profileFor, "profile-for", 10*time.Second, "how long the profile is taken")
	f.StringVar(&o.profileOut, "profile-out", "", "the profile's file (default NAME.prof)")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w: %w", errUsage, err)
	}
	switch {
	case o.colocate && o.only != "":
		return o, fmt.Errorf("%w: -colocate and -only: want one of them", errUsage)
	case f.NArg() > 0:
		return o, fmt.Errorf("%w: what is %q?", errUsage, f.Arg(0))
	case o.rounds < 1:
		return o, fmt.Errorf("%w: -rounds is %d: want 1 or more", errUsage, o.rounds)
	case o.profileLoad != loadFlow && o.profileLoad != loadHops:
		return o, fmt.Errorf("%w: -profile-load is %q: want %s or %s", errUsage, o.profileLoad, loadFlow, loadHops)
	case o.profileFor < time.Second:
		return o, fmt.Errorf("%w: -profile-for is %v: want 1s or more", errUsage, o.profileFor)
	}
	return o, nil
}

// run builds, measures and reports.
func (o options) run(ctx context.Context) (err error) {
	// Children inherit the environment: the runtime's settings would be some
	// contender's advantage.
	for _, name := range []string{"GOMAXPROCS", "GOGC", "GOMEMLIMIT", "GODEBUG"} {
		if err := os.Unsetenv(name); err != nil {
			return fmt.Errorf("clear %s: %w", name, err)
		}
	}
	wanted, err := o.contenders()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-hop-")
	if err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{dir: dir, loads: fullLoads(), progress: os.Stderr}
	if o.quick {
		b.loads, o.rounds = quickLoads(), 1
	}
	if err := b.build(ctx, wanted); err != nil {
		return err
	}
	if o.profile != "" {
		return b.profile(ctx, wanted[0], o)
	}
	r, err := b.rounds(ctx, wanted, o.rounds, o.seed)
	if err != nil {
		return err
	}
	return o.report(r, dir)
}

// contenders are those that were asked for.
func (o options) contenders() ([]contender, error) {
	if o.profile != "" {
		return choose(o.profile)
	}
	if o.colocate {
		return choose(colocateBeside + "," + colocated)
	}
	return choose(o.only)
}

// report prints the results, and writes them to the file if there is one. The
// error tells that something could not be measured.
func (o options) report(r results, dir string) error {
	on := machine.Describe(dir)
	if err := r.text(os.Stdout, on); err != nil {
		return err
	}
	if o.write != "" {
		name, text := sectionName, r.markdown(on)
		if o.colocate {
			name, text = colocateSection, r.markdownAs(on, colocateCommand, colocateMethod)
		}
		if err := section.Write(o.write, name, text); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "written to", o.write)
	}
	if len(r.failures) > 0 {
		return fmt.Errorf("%d measurements failed; the first: %w", len(r.failures), r.failures[0])
	}
	return nil
}

// loads are how hard and how long everything is measured.
type loads struct {
	warm, hops, flow        generate.Load
	ingressWarm, ingressFor generate.Load
}

// most bounds events by their number where time is meant to bound them.
const most = 1 << 20

func fullLoads() loads {
	return loads{
		warm:        generate.Load{Clients: 32, For: time.Second, Most: most},
		hops:        generate.Load{Clients: 1, For: 1500 * time.Millisecond, Most: 4000},
		flow:        generate.Load{Clients: 32, For: 3 * time.Second, Most: most},
		ingressWarm: generate.Load{Clients: 64, For: 500 * time.Millisecond, Most: most},
		ingressFor:  generate.Load{Clients: 64, For: 2 * time.Second, Most: most},
	}
}

// quickLoads end by their number of events.
func quickLoads() loads {
	return loads{
		warm:        generate.Load{Clients: 8, For: time.Minute, Most: 40},
		hops:        generate.Load{Clients: 1, For: time.Minute, Most: 20},
		flow:        generate.Load{Clients: 32, For: time.Minute, Most: 200},
		ingressWarm: generate.Load{Clients: 8, For: time.Minute, Most: 40},
		ingressFor:  generate.Load{Clients: 64, For: time.Minute, Most: 500},
	}
}
