// Command sidecar runs chains of steps in the pod that it is in.
//
//	sidecar --listen ADDR --allow 9101,9102 --trust-keys FILE[,FILE]
//	sidecar --listen ADDR --step resize=9101 --step caption=9102 --trust-keys FILE[,FILE]
//
// main only wires: what it starts is in colocate/sidecar.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sidestep-dev/sidestep/colocate/sidecar"
)

// Exit statuses.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2 // and keys that cannot be used: nothing was started
)

func main() {
	// SIGTERM and SIGINT drain; a second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are what the flags say.
type options struct {
	sidecar.Config
	listen string
	keys   []string
	await  bool
	drain  time.Duration
}

// usageError is the caller's to mend: nothing was started.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err == nil {
		err = serve(ctx, o, stdout)
	}
	var u usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, &u):
		fmt.Fprintln(stderr, "sidecar:", err)
		return exitUsage
	}
	fmt.Fprintln(stderr, "sidecar:", err)
	return exitError
}

func parse(args []string, stderr io.Writer) (*options, error) {
	o := new(options)
	flags := flag.NewFlagSet("sidecar", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "Usage: sidecar --listen ADDRESS --allow PORT[,PORT] --trust-keys FILE[,FILE] [FLAGS]\n\n"+
			"Runs chains of steps on the loopback address of the pod that it is in, as slips say that a\n"+
			"trusted dispatcher has signed. SIGTERM drains. A second signal ends it at once.\n\nFlags:\n")
		flags.PrintDefaults()
	}
	flags.StringVar(&o.listen, "listen", "", "`ADDRESS` that takes chains; port 0 chooses a free one")
	flags.Func("allow", "`PORTS` of steps that may be called, such as 9101,9102,[::1]:9103", func(s string) error {
		ports, err := sidecar.ParsePorts(s)
		o.Allow = append(o.Allow, ports...)
		return err
	})
	flags.Func("step", "`NAME=PORT` of a step that may be called, also without a slip by the path /NAME; may be given several times", o.step)
	flags.Func("trust-keys", "`FILES` of Ed25519 public keys in PEM; read again when they change", func(s string) error {
		o.keys = strings.Split(s, ",")
		return nil
	})
	flags.BoolVar(&o.await, "await-keys", false, "start although files of keys are not there yet, and wait for them")
	flags.IntVar(&o.MaxInFlight, "max-in-flight", sidecar.DefaultMaxInFlight, "most calls of one step at a time")
	flags.IntVar(&o.MaxChains, "max-chains", sidecar.DefaultMaxChains, "most chains at a time")
	flags.DurationVar(&o.MaxWait, "max-wait", sidecar.DefaultMaxWait,
		"how long a chain may wait for a place at a step that is not its first")
	flags.StringVar(&o.Claims, "claims", "",
		"`FOLDER` for events that do not fit into memory, which the steps see under the same path")
	flags.Int64Var(&o.ClaimBytes, "claim-bytes", sidecar.DefaultClaimBytes, "most `BYTES` in the folder for claims")
	flags.Int64Var(&o.Memory, "memory", sidecar.DefaultMemory, "most `BYTES` of events in memory")
	flags.StringVar(&o.Pod, "pod-uid", "", "`UID` of the pod (default one that is new with each start)")
	flags.StringVar(&o.Namespace, "namespace", "", "`NAMESPACE` of the pod (default: slips of any will do)")
	flags.DurationVar(&o.drain, "drain", 25*time.Second, "how long chains may take to end when told to stop")
	level := flags.String("log-level", "info", "least `LEVEL` that is logged: debug, info, warn or error")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, usageError{errors.New(`"sidecar --help" lists the flags`)}
	}
	return o, o.finish(flags, *level, stderr)
}

// step takes in the flag of that name.
func (o *options) step(s string) error {
	name, p, err := sidecar.ParseStep(s)
	if err != nil {
		return err
	}
	if _, twice := o.Names[name]; twice {
		return fmt.Errorf("step %s is there twice", name)
	}
	if o.Names == nil {
		o.Names = make(map[string]uint16)
	}
	o.Names[name] = p.Number
	o.Allow = append(o.Allow, p)
	return nil
}

func (o *options) finish(flags *flag.FlagSet, level string, stderr io.Writer) error {
	switch {
	case flags.NArg() > 0:
		return usageError{fmt.Errorf("unexpected argument %q", flags.Arg(0))}
	case o.listen == "":
		return usageError{errors.New("--listen is missing: want an address such as :9300")}
	case len(o.keys) == 0:
		return usageError{errors.New("--trust-keys is missing: want files of public keys; the dispatcher makes one with --slip-key")}
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(strings.ToUpper(level))); err != nil {
		return usageError{fmt.Errorf("--log-level is %q: want debug, info, warn or error", level)}
	}
	o.Logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: l}))
	if o.Pod == "" {
		var id [16]byte
		rand.Read(id[:]) //nolint:errcheck // it does not fail
		o.Pod = hex.EncodeToString(id[:])
	}
	if err := o.Validate(); err != nil {
		return usageError{err}
	}
	return nil
}

// heapSpare is what the process may need beside events, in bytes. The limit for the
// heap that is made with it is soft; what a burst has left is given back as soon
// as nothing runs.
const heapSpare = 24 << 20

// serve runs until ctx ends, and then drains.
func serve(ctx context.Context, o *options, stdout io.Writer) error {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapSpare + 2*o.Memory)
	}
	o.Idle = debug.FreeOSMemory
	s, err := sidecar.New(o.Config)
	if err != nil {
		return err
	}
	defer s.Close()
	keys := &sidecar.Keys{Files: o.keys, Await: o.await, Trust: s.Trust, Logger: o.Logger}
	if err := keys.Load(); err != nil {
		return usageError{err}
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	srv := sidecar.NewServer(s)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	watching, stopWatch := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() { keys.Watch(watching) })
	defer watch.Wait()
	defer stopWatch()
	o.Logger.Info("serving", "pod", o.Pod, "processors", runtime.GOMAXPROCS(0))
	fmt.Fprintf(stdout, "http://%s\n", l.Addr())
	select {
	case err := <-served:
		return errors.Join(err, shutdown(srv, 0))
	case <-ctx.Done():
	}
	o.Logger.Info("draining")
	return errors.Join(shutdown(srv, o.drain), <-served)
}

func shutdown(srv *sidecar.Server, most time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	return srv.Shutdown(ctx)
}
