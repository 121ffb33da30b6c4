package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// options are what the flags say.
type options struct {
	places  int
	service time.Duration
	last    time.Duration
	rounds  int
	workers int
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "step" {
		serveStep(os.Args[2])
	}
	var o options
	flag.IntVar(&o.places, "places", 16, "calls of the step at a `TIME`")
	flag.DurationVar(&o.service, "service", 10*time.Millisecond, "how long the step takes")
	flag.DurationVar(&o.last, "for", 3*time.Second, "how long each load lasts")
	flag.IntVar(&o.rounds, "rounds", 3, "`NUMBER` of rounds, of which the median is told")
	flag.IntVar(&o.workers, "workers", 256, "connections of the generator")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "shed:", err)
		os.Exit(1)
	}
}

// multiples of the capacity that are offered.
var multiples = []float64{0.5, 0.9, 1.2, 2, 3, 5}

func run(ctx context.Context, o options) error {
	p, err := startPod(ctx, o)
	if err != nil {
		return err
	}
	defer p.stop()
	time.Sleep(time.Second)
	fmt.Printf("%s, %d processors; %d places of %v: capacity %.0f/s\n", runtime.Version(), runtime.NumCPU(), o.places, o.service, o.capacity())
	fmt.Printf("idle: %s resident\n\n", p.resident())
	fmt.Printf("%8s %10s %10s %8s %12s %12s %12s %12s\n", "offered", "sent/s", "done/s", "of peak", "done p50", "done p99", "shed p50", "shed p99")
	results := make([][]result, len(multiples))
	for range o.rounds {
		for i, m := range multiples {
			r, err := p.load(ctx, o, m*o.capacity())
			if err != nil {
				return err
			}
			results[i] = append(results[i], r)
		}
	}
	peak := 0.
	for _, rs := range results {
		peak = max(peak, median(rs, func(r result) float64 { return r.rate(r.done) }))
	}
	for i, m := range multiples {
		rs := results[i]
		done := median(rs, func(r result) float64 { return r.rate(r.done) })
		of := func(f func(r result) float64) time.Duration {
			return time.Duration(median(rs, f)).Round(time.Microsecond)
		}
		fmt.Printf("%7.1fx %10.0f %10.0f %7.0f%% %12v %12v %12v %12v\n", m,
			median(rs, func(r result) float64 { return r.rate(r.done) + r.rate(r.shed) }), done, 100*done/peak,
			of(func(r result) float64 { return quantile(r.done, 0.5) }), of(func(r result) float64 { return quantile(r.done, 0.99) }),
			of(func(r result) float64 { return quantile(r.shed, 0.5) }), of(func(r result) float64 { return quantile(r.shed, 0.99) }))
	}
	fmt.Printf("\nafter the load: %s resident, %d connections\n", p.resident(), p.connections())
	p.client.CloseIdleConnections()
	select {
	case <-time.After(8 * time.Second):
	case <-ctx.Done():
		return errors.New("interrupted")
	}
	fmt.Printf("8 s later, connections closed: %s resident, %d connections\n", p.resident(), p.connections())
	return nil
}

func (o options) capacity() float64 { return float64(o.places) / o.service.Seconds() }

func median(rs []result, f func(result) float64) float64 {
	var all []float64
	for _, r := range rs {
		all = append(all, f(r))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[int(q*float64(len(sorted)-1))])
}
