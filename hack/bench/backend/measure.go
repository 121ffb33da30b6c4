package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/stats"
)

// result of one turn: records in a second, and milliseconds.
type result struct{ publish, deliver, p50, p99 float64 }

func measure(ctx context.Context, c contender, o options) (r result, err error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	if err := c.open(ctx); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.read(ctx); err != nil {
		return r, err
	}
	// One record first: the reader has joined its group by then.
	if err := through(ctx, c, 1, nil); err != nil {
		return r, errors.Join(err, c.stop())
	}
	r.p50, r.p99, err = latency(ctx, c, o.timed, o.size)
	// Nobody reads ahead while the records to be delivered are published.
	if err = errors.Join(err, c.stop()); err != nil {
		return r, err
	}
	begun := time.Now()
	if err := flood(ctx, c, o.records, o.goroutines, o.size); err != nil {
		return r, err
	}
	r.publish = float64(o.records) / time.Since(begun).Seconds()
	if err := c.read(ctx); err != nil {
		return r, err
	}
	first := true
	err = receive(ctx, c, o.records, func([]byte) {
		if first { // joining is not what is measured
			first, begun = false, time.Now()
		}
	})
	r.deliver = float64(o.records-1) / time.Since(begun).Seconds()
	return r, errors.Join(err, c.stop())
}

// receive takes n records.
func receive(ctx context.Context, c contender, n int, each func([]byte)) error {
	reading, enough := context.WithCancel(ctx)
	defer enough()
	err := c.deliver(reading, func(data []byte) {
		each(data)
		if n--; n == 0 {
			enough()
		}
	})
	if err == nil && n > 0 {
		err = fmt.Errorf("%d records did not arrive: %w", n, ctx.Err())
	}
	return err
}

func through(ctx context.Context, c contender, n int, each func([]byte)) error {
	if each == nil {
		each = func([]byte) {}
	}
	received := make(chan error, 1)
	go func() { received <- receive(ctx, c, n, each) }()
	for range n {
		if err := c.publish(ctx, make([]byte, 8)); err != nil {
			return errors.Join(err, <-received)
		}
	}
	return <-received
}

// interval between the records whose latency is measured: the broker is idle in between.
const interval = 5 * time.Millisecond

func latency(ctx context.Context, c contender, n, size int) (p50, p99 float64, err error) {
	start := time.Now()
	var took []float64
	received := make(chan error, 1)
	go func() {
		received <- receive(ctx, c, n, func(data []byte) {
			sent := time.Duration(binary.BigEndian.Uint64(data))
			took = append(took, (time.Since(start)-sent).Seconds()*1000)
		})
	}()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for range n {
		<-tick.C
		data := make([]byte, max(size, 8))
		binary.BigEndian.PutUint64(data, uint64(time.Since(start)))
		if err := c.publish(ctx, data); err != nil {
			return 0, 0, errors.Join(err, <-received)
		}
	}
	if err := <-received; err != nil {
		return 0, 0, err
	}
	slices.Sort(took)
	return stats.Quantile(took, 0.5), stats.Quantile(took, 0.99), nil
}
