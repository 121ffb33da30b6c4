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
	"slices"
	"strings"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/machine"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/section"
	"github.com/sidestep-dev/sidestep/internal/kafkabroker"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "failover:", err)
		os.Exit(1)
	}
}

type options struct {
	logs, processes       int
	brokers               []string
	write, member, target string
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("failover", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.logs, "logs", 5000, "`NUMBER` of logs")
	f.IntVar(&o.processes, "processes", 3, "`NUMBER` of processes that share them")
	brokers := f.String("brokers", "nats,kafka", "which `BROKERS`")
	f.StringVar(&o.write, "write", "", "also write the table to this Markdown `FILE`, between its markers")
	f.StringVar(&o.member, "member", "", "be a member, on this kind of broker (the program starts itself so)")
	f.StringVar(&o.target, "target", "", "the broker's address, of a member")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.brokers = strings.Split(*brokers, ",")
	switch {
	case f.NArg() > 0 || o.logs < 1 || o.processes < 2:
		return o, errors.New("there is at least 1 log and 2 processes, and there are no arguments")
	case slices.ContainsFunc(o.brokers, func(b string) bool { return b != "nats" && b != "kafka" }):
		return o, fmt.Errorf("brokers are nats and kafka, not %q", *brokers)
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if o.member != "" {
		return member(ctx, o, stdout)
	}
	dir, err := os.MkdirTemp("", "bench-failover-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	results := make(map[string]result)
	for _, kind := range o.brokers {
		if results[kind], err = onBroker(ctx, o, kind, filepath.Join(dir, kind), stderr); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	text := report(o, results, machine.Describe(dir).String())
	fmt.Fprint(stdout, text)
	if o.write != "" {
		return section.Write(o.write, sectionName, text)
	}
	return nil
}

// onBroker measures on a broker of its own.
func onBroker(ctx context.Context, o options, kind, dir string, progress io.Writer) (result, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return result{}, err
	}
	switch kind {
	case "kafka":
		b, err := kafkabroker.Start(ctx, kafkabroker.Options{Dir: dir})
		if err != nil {
			return result{}, err
		}
		defer b.Kill()
		return measure(ctx, o, kind, b.Address, progress)
	default:
		s, err := server.NewServer(&server.Options{
			Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true,
		})
		if err != nil {
			return result{}, err
		}
		s.Start()
		defer s.WaitForShutdown()
		defer s.Shutdown()
		if !s.ReadyForConnections(patience) {
			return result{}, errors.New("the NATS server does not start")
		}
		return measure(ctx, o, kind, s.ClientURL(), progress)
	}
}
