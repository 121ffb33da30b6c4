package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/loop"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/steps"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/store"
)

// The roles in which this program runs itself as a child.
const (
	roleSteps        = "steps"
	roleNetHTTP      = "nethttp"
	roleFastHTTP     = "fasthttp"
	roleAccept       = "accept"
	roleStoreLoop    = "store-loop"
	roleStoreIngress = "store-ingress"
	roleStorePublish = "store-publish"
	roleStoreServe   = "store-serve"
)

// role is what a child is told.
type role struct {
	steps     string
	dir       string
	transport store.Transport
	warm      store.Load
	load      store.Load
}

var errRole = errors.New("unknown role")

// runRole is a child's main.
func runRole(args []string) error {
	var r role
	flags := flag.NewFlagSet("child", flag.ContinueOnError)
	flags.StringVar(&r.steps, "steps", "", "base URL of the steps")
	flags.StringVar(&r.dir, "dir", "", "where the store keeps its files")
	flags.StringVar((*string)(&r.transport), "transport", string(store.InProcess), "how the store is reached")
	flags.IntVar(&r.load.Clients, "clients", 1, "clients that publish")
	flags.DurationVar(&r.warm.For, "warm-for", time.Second, "how long they publish to warm up")
	flags.IntVar(&r.warm.Most, "warm-most", 1, "how much they publish to warm up")
	flags.DurationVar(&r.load.For, "for", time.Second, "how long they publish")
	flags.IntVar(&r.load.Most, "most", 1, "how much they publish")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	r.warm.Clients = r.load.Clients
	ctx, cancel := process.WithParent(context.Background())
	defer cancel()
	switch args[0] {
	case roleStoreServe:
		return store.Serve(ctx, r.dir, func(url string) error {
			return process.Announce(process.Ready{URL: url})
		})
	case roleStorePublish:
		return r.publish(ctx)
	default:
		return r.serve(ctx, args[0])
	}
}

// serve runs the roles that are HTTP servers. The listener takes connections
// before anything serves them: who connects early waits.
func (r role) serve(ctx context.Context, name string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if err := process.Announce(process.Ready{URL: "http://" + l.Addr().String()}); err != nil {
		return err
	}
	switch name {
	case roleSteps:
		return steps.Serve(ctx, l, os.Stdout)
	case roleNetHTTP:
		return loop.NetHTTP(ctx, l, r.steps)
	case roleFastHTTP:
		return loop.FastHTTP(ctx, l, r.steps)
	case roleAccept:
		return loop.Accept(ctx, l)
	case roleStoreLoop:
		return store.Loop(ctx, l, r.steps, r.dir, r.transport)
	case roleStoreIngress:
		return store.Ingress(ctx, l, r.dir, r.transport)
	default:
		return fmt.Errorf("%w %q", errRole, name)
	}
}

// publish prints what came of it as one line of JSON.
func (r role) publish(ctx context.Context) error {
	if err := process.Announce(process.Ready{URL: "none"}); err != nil {
		return err
	}
	p, err := store.PublishHere(ctx, r.dir, r.transport, r.warm, r.load)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(p)
}
