package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/section"
	"github.com/sidestep-dev/sidestep/internal/kafkabroker"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "backend:", err)
		os.Exit(1)
	}
}

type options struct {
	rounds, records, size, goroutines, timed, events int
	broker, write                                    string
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("backend", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.rounds, "rounds", 10, "`NUMBER` of rounds")
	f.IntVar(&o.records, "records", 50_000, "`NUMBER` of records published and delivered in a round")
	f.IntVar(&o.size, "size", 1024, "`BYTES` of data in each")
	f.IntVar(&o.goroutines, "goroutines", 64, "`NUMBER` that publish at once")
	f.IntVar(&o.timed, "timed", 300, "`NUMBER` of records whose latency is measured in a round")
	f.IntVar(&o.events, "events", 400, "`NUMBER` of events that go through the Sequence in a round")
	f.StringVar(&o.broker, "broker", os.Getenv("SIDESTEP_KAFKA"), "`HOST:PORT` of a broker (default: one is started)")
	f.StringVar(&o.write, "write", "", "also write the table to this Markdown `FILE`, between its markers")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 || min(o.rounds, o.records, o.size, o.goroutines, o.timed, o.events) < 1 {
		return o, errors.New("all numbers must be 1 or more, and there are no arguments")
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	where := "the broker at " + o.broker
	if o.broker == "" {
		dir, err := os.MkdirTemp("", "sidestep-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		b, err := kafkabroker.Start(ctx, kafkabroker.Options{Dir: dir})
		if err != nil {
			return err
		}
		defer b.Kill()
		o.broker, where = b.Address, "Apache Kafka "+kafkabroker.Version+", one node on the same machine"
	}
	ours, other, err := compare(ctx, o, stderr)
	if err != nil {
		return err
	}
	f, err := measureFlows(ctx, o, stderr)
	if err != nil {
		return err
	}
	machine := fmt.Sprintf("%s/%s, %d CPUs, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	text := table(o, where, machine, ours, other) + f.table()
	fmt.Fprint(stdout, text)
	if o.write != "" {
		return section.Write(o.write, "bench-backend", text)
	}
	return nil
}

// compare has the contenders take turns.
func compare(ctx context.Context, o options, stderr io.Writer) (mine, other []result, err error) {
	contenders := []contender{&ours{o: o}, &franz{o: o}}
	results := make([][]result, len(contenders))
	for round := range o.rounds + 1 { // the first one warms up
		for _, i := range rand.Perm(len(contenders)) {
			r, err := measure(ctx, contenders[i], o)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", contenders[i].name(), err)
			}
			fmt.Fprintf(stderr, "round %d: %-20s publish %6.0f/s, deliver %6.0f/s, p50 %.2f ms, p99 %.2f ms\n",
				round, contenders[i].name(), r.publish, r.deliver, r.p50, r.p99)
			if round > 0 {
				results[i] = append(results[i], r)
			}
		}
	}
	return results[0], results[1], nil
}

// deadline bounds one contender's turn.
const deadline = 5 * time.Minute
