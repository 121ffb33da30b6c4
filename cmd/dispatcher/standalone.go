package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/sidestep-dev/sidestep/internal/standalone"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

var standaloneCommand = command{
	name:  "standalone",
	about: "run flows from YAML files, with a store in this process",
	run:   runStandalone,
}

func runStandalone(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := standaloneFlags(args, stderr)
	if err != nil {
		return err
	}
	c.Stdout = stdout
	err = standalone.Run(ctx, c)
	var p manifest.Problems
	if errors.As(err, &p) {
		return usageError{p}
	}
	return err
}

func standaloneFlags(args []string, stderr io.Writer) (standalone.Config, error) {
	var c standalone.Config
	flags := flag.NewFlagSet("standalone", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "Usage: dispatcher standalone -f PATH [-f PATH ...] [FLAGS]\n\n"+
			"Runs the flows in the files until SIGTERM or SIGINT. Edits to the files apply\n"+
			"while it runs. A second signal ends it at once; nothing stored is lost.\n\nFlags:\n")
		flags.PrintDefaults()
	}
	flags.Func("f", "`PATH` of a YAML file, or of a folder of them; may be given several times", func(s string) error {
		c.Paths = append(c.Paths, s)
		return nil
	})
	flags.StringVar(&c.Listen, "listen", "127.0.0.1:8080", "`ADDRESS` that takes events; port 0 chooses a free one")
	flags.StringVar(&c.Admin, "admin", "127.0.0.1:9090",
		"`ADDRESS` of /healthz, /readyz, /metrics, /debug/hops and /debug/pprof")
	flags.StringVar(&c.Data, "data", "",
		"`FOLDER` for what must outlive the process (default $XDG_STATE_HOME/sidestep or ~/.local/state/sidestep)")
	flags.StringVar(&c.Key, "key", "",
		"`FILE` of a key for processes that run the same files on one external broker, each with its own --data; made if it is absent")
	flags.DurationVar(&c.Drain, "drain", 30*time.Second, "how long what is in flight may take when told to stop")
	flags.StringVar(&c.SlipKey, "slip-key", "", "`FILE` of the Ed25519 key that signs slips, made if it is absent")
	flags.StringVar(&c.Zone, "zone", "", "`NAME` of the zone that this is in; chains run in LocalPods of it, while they have room")
	output := flags.String("output", "text", "`FORMAT` of the addresses that are printed: text or json")
	level := flags.String("log-level", "info", "least `LEVEL` that is logged: debug, info, warn or error")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return c, err
		}
		return c, usageError{errors.New(`"dispatcher standalone --help" lists the flags`)}
	}
	return c, finishFlags(flags, &c, *output, *level, stderr)
}

func finishFlags(flags *flag.FlagSet, c *standalone.Config, output, level string, stderr io.Writer) error {
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q: files are given with -f", flags.Arg(0))}
	}
	switch output {
	case "text", "json":
		c.JSON = output == "json"
	default:
		return usageError{fmt.Errorf("--output is %q: want text or json", output)}
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(strings.ToUpper(level))); err != nil {
		return usageError{fmt.Errorf("--log-level is %q: want debug, info, warn or error", level)}
	}
	c.Logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: l}))
	if err := c.Validate(); err != nil {
		return usageError{err}
	}
	return nil
}
