package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"knative.dev/pkg/network"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/sidestep-dev/sidestep/internal/store"
	"github.com/sidestep-dev/sidestep/kube/broker"
	"github.com/sidestep-dev/sidestep/kube/serve"
)

var runCommand = command{
	name:  "run",
	about: "deliver the events of a cluster's channels",
	run:   runCluster,
}

var storeCommand = command{
	name:  "store",
	about: "keep the logs of a cluster that has no broker",
	run:   runStore,
}

// newFlags makes the flags of a command, with what they have in common.
func newFlags(name, about string, stderr io.Writer) (f *flag.FlagSet, finish func(args []string) (*slog.Logger, error)) {
	f = flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprintf(stderr, "Usage: dispatcher %s [FLAGS]\n\n%s\n\nFlags:\n", name, about)
		f.PrintDefaults()
	}
	level := f.String("log-level", "info", "least `LEVEL` that is logged: debug, info, warn or error")
	return f, func(args []string) (*slog.Logger, error) {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, usageError{fmt.Errorf(`"dispatcher %s --help" lists the flags`, name)}
		}
		if f.NArg() > 0 {
			return nil, usageError{fmt.Errorf("unexpected argument %q", f.Arg(0))}
		}
		var l slog.Level
		if err := l.UnmarshalText([]byte(strings.ToUpper(*level))); err != nil {
			return nil, usageError{fmt.Errorf("--log-level is %q: want debug, info, warn or error", *level)}
		}
		return slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: l})), nil
	}
}

func runCluster(ctx context.Context, args []string, _, stderr io.Writer) error {
	var c serve.Config
	var service string
	f, finish := newFlags("run", "Delivers the events of all SidestepChannels, together with its like, until SIGTERM.", stderr)
	f.StringVar(&c.Namespace, "namespace", "knative-eventing", "`NAMESPACE` of the installation")
	f.StringVar(&c.Pod, "pod", os.Getenv("HOSTNAME"), "`NAME` of the pod that this is: its next container takes over from the last one at once, and chains run in pods of its zone, while they have room")
	f.StringVar(&service, "service", "sidestep-dispatcher", "`NAME` of the dispatchers' Service")
	f.StringVar(&c.TLSSecret, "tls-secret", "sidestep-dispatcher-server-tls", "`NAME` of the Secret with the certificate")
	f.StringVar(&c.KeyFile, "key-file", "/etc/sidestep/signing/key", "`FILE` with the key that signs internal headers")
	f.StringVar(&c.Store.URL, "store", "nats://sidestep-store:4222", "`URL` of the store, for backend embedded")
	f.StringVar(&c.Store.PasswordFile, "store-password-file", "/etc/sidestep/store/password", "`FILE` with what clients of the store show")
	f.IntVar(&c.Store.Replicas, "store-replicas", 1, "copies of each record in the store: 1 or 3")
	f.StringVar(&c.SlipKeyFile, "slip-key-file", "/etc/sidestep/slip-key/current",
		"`FILE` with the key that says what sidecars may run, empty for no chains in pods")
	f.StringVar(&c.Secrets, "secrets", "/run/sidestep", "`FOLDER` in memory for the Secrets that config-sidestep names")
	f.StringVar(&c.Listen, "listen", ":8080", "`ADDRESS` that takes events")
	f.StringVar(&c.ListenTLS, "listen-tls", ":8443", "`ADDRESS` that takes events over TLS, empty for none")
	f.StringVar(&c.Admin, "admin", ":9090", "`ADDRESS` of /healthz, /readyz, /metrics, /debug/hops and /rollcall")
	f.DurationVar(&c.Linger, "linger", 5*time.Second, "how long to serve on when told to stop: senders learn of it no sooner")
	f.DurationVar(&c.Drain, "drain", 30*time.Second, "how long what is in flight may take after that")
	logger, err := finish(args)
	if err != nil {
		return err
	}
	ctrl.SetLogger(logr.FromSlogHandler(logger.Handler()))
	if c.API, err = ctrl.GetConfig(); err != nil {
		return err
	}
	c.Logger = logger
	c.Dispatcher, c.ClusterDomain = network.GetServiceHostname(service, c.Namespace), network.GetClusterDomainName()
	return serve.Run(ctx, c)
}

func runStore(ctx context.Context, args []string, _, stderr io.Writer) error {
	c, err := storeConfig(args, stderr)
	if err != nil {
		return err
	}
	return store.Run(ctx, c)
}

// storeConfig is what the arguments of the store say.
func storeConfig(args []string, stderr io.Writer) (store.Config, error) {
	c := store.Config{User: broker.User}
	var peers string
	f, finish := newFlags("store", "A JetStream server with what dispatchers keep in it, until SIGTERM.", stderr)
	f.StringVar(&c.Dir, "data", "/data", "`FOLDER` of the files")
	f.StringVar(&c.Name, "name", os.Getenv("HOSTNAME"), "`NAME` of the server, the same at each start")
	f.StringVar(&c.Listen, "listen", "0.0.0.0:4222", "`ADDRESS` for clients")
	f.StringVar(&c.Cluster, "cluster", "0.0.0.0:6222", "`ADDRESS` for its peers")
	f.StringVar(&c.Monitor, "monitor", "0.0.0.0:8222", "`ADDRESS` of /healthz, empty for none")
	f.StringVar(&peers, "peers", "", "`HOST:PORT,...` of all stores, for more than one")
	f.StringVar(&c.PasswordFile, "password-file", "/etc/sidestep/store/password", "`FILE` with what clients and peers show")
	f.BoolVar(&c.SyncAlways, "sync-always", true, "have every write reach the disk before it is confirmed")
	logger, err := finish(args)
	if err != nil {
		return c, err
	}
	if peers != "" {
		c.Peers = strings.Split(peers, ",")
	}
	c.Logger = logger
	return c, nil
}
