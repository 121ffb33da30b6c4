// Program actor plays the parts of a flow in tests on a cluster:
//
//	actor answer --name NAME [--delay D] [--fail FRACTION]   a step: it answers with the event it got
//	actor collect                                            the end of a flow: it keeps which events came
//	actor post --to URL [--every D] [--data N] [--events N]  a client: it posts events until told to stop
//
// GET /report tells, in JSON, what collect and post have seen; POST /stop ends posting.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "actor:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("want answer, collect or post")
	}
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	listen := fs.String("listen", ":8080", "`address` to serve on")
	var h http.Handler
	var play func(context.Context)
	switch args[0] {
	case "answer":
		s := &step{}
		fs.StringVar(&s.name, "name", "", "what it adds to the event's way")
		fs.DurationVar(&s.delay, "delay", 0, "how long an answer takes")
		fs.Float64Var(&s.fail, "fail", 0, "fraction of requests answered 503")
		fs.StringVar(&s.typ, "type", "", "type of the answer, if not that of the event")
		h = s
	case "collect":
		h = &collector{came: map[string]*arrival{}}
	case "post":
		c := newClient()
		fs.Func("to", "`URL` to post to; each in turn if there are several", func(v string) error {
			c.to = append(c.to, v)
			return nil
		})
		fs.DurationVar(&c.every, "every", 10*time.Millisecond, "time between two events")
		fs.IntVar(&c.data, "data", 1024, "bytes of data of an event")
		fs.IntVar(&c.events, "events", 0, "how many to post; 0: no end")
		h, play = c, c.run
	default:
		return fmt.Errorf("unknown part %q: want answer, collect or post", args[0])
	}
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected %q", fs.Arg(0))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("/", h)
	return serve(ctx, *listen, mux, play)
}

// serve until ctx ends, and then finish what was begun.
func serve(ctx context.Context, address string, h http.Handler, play func(context.Context)) error {
	server := &http.Server{Addr: address, Handler: h, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	if play != nil {
		go play(ctx)
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return server.Shutdown(ctx)
}
