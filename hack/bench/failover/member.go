package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/kafkabackend"
	"github.com/sidestep-dev/sidestep/channel/backend/natsbackend"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
)

const group = "g"

func logName(i int) string { return fmt.Sprintf("failover/log-%d", i) }

// connect is as a dispatcher does.
func connect(ctx context.Context, kind, target string) (backend.Backend, error) {
	if kind == "kafka" {
		return kafkabackend.Connect(ctx, kafkabackend.Config{Brokers: []string{target}, RequestTimeout: time.Minute})
	}
	return natsbackend.Connect(ctx, natsbackend.Config{URL: target})
}

// atOnce is how many calls are under way.
const atOnce = 64

// each calls do for all numbers below n.
func each(n int, do func(i int) error) error {
	var (
		working sync.WaitGroup
		mu      sync.Mutex
		failed  error
		next    = make(chan int)
	)
	for range atOnce {
		working.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					mu.Lock()
					failed = errors.Join(failed, fmt.Errorf("log %d: %w", i, err))
					mu.Unlock()
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	working.Wait()
	return failed
}

// member says that it is ready when it has subscribed to all logs, and then what it
// receives, until ctx ends or it is killed.
func member(ctx context.Context, o options, stdout io.Writer) error {
	ctx, end := process.WithParent(ctx)
	defer end()
	b, err := connect(ctx, o.member, o.target)
	if err != nil {
		return err
	}
	defer b.Close(context.Background())
	subs := make([]backend.Subscription, o.logs)
	if err := each(o.logs, func(i int) (err error) {
		subs[i], err = b.Subscribe(ctx, logName(i), group, backend.Options{})
		return err
	}); err != nil {
		return err
	}
	if err := process.Announce(process.Ready{Kind: "Member", URL: o.target}); err != nil {
		return err
	}
	var (
		receiving sync.WaitGroup
		mu        sync.Mutex
	)
	for _, s := range subs {
		receiving.Go(func() {
			for {
				d, err := s.Receive(ctx)
				if err != nil {
					return
				}
				mu.Lock()
				fmt.Fprintf(stdout, "%s\n", d.Data)
				mu.Unlock()
				if s.Ack(d) != nil {
					return
				}
			}
		})
	}
	receiving.Wait()
	return nil
}
