package backendtest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// benchmarkRound bounds what the broker holds while it is measured.
const benchmarkRound = 8192

// Benchmark measures a backend with records of 1 KiB, on one connection:
//
//	publish/1, publish/64     durable publishes, by so many goroutines at once
//	consume                   Receive and Ack of what is there
//	through                   Publish, Receive and Ack of one record at a time
func Benchmark(b *testing.B, newHarness func(t testing.TB) Harness) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprint("publish/", goroutines), func(b *testing.B) { benchPublish(b, newHarness, goroutines) })
	}
	b.Run("consume", func(b *testing.B) { benchConsume(b, newHarness) })
	b.Run("through", func(b *testing.B) { benchThrough(b, newHarness) })
}

func benchRecord() *backend.Record {
	data := make([]byte, 1024)
	return &backend.Record{Data: data, Header: []backend.Header{
		{Name: "ce-specversion", Value: "1.0"},
		{Name: "ce-id", Value: "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
		{Name: "ce-source", Value: "/backendtest"},
		{Name: "ce-type", Value: "dev.sidestep.benchmark"},
		{Name: "content-type", Value: "application/octet-stream"},
	}}
}

// rounds calls run with a fresh log until b.N records went through. Only what
// run does is measured.
func rounds(b *testing.B, f *fixture, c backend.Backend, prepare, run func(log string, n int)) {
	b.ReportAllocs()
	b.SetBytes(int64(benchRecord().Size()))
	b.ResetTimer()
	for done := 0; done < b.N; {
		b.StopTimer()
		n := min(benchmarkRound, b.N-done)
		log := f.log(c, false, "g")
		prepare(log, n)
		b.StartTimer()
		run(log, n)
		b.StopTimer()
		f.must("DeleteLog", c.DeleteLog(f.Context(), log))
		b.StartTimer()
		done += n
	}
}

func benchPublish(b *testing.B, newHarness func(t testing.TB) Harness, goroutines int) {
	f := newFixture(b, newHarness(b))
	c := f.connect()
	rounds(b, f, c, func(string, int) {}, func(log string, n int) { publishAll(f, c, log, n, goroutines) })
}

func publishAll(f *fixture, c backend.Backend, log string, n, goroutines int) {
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			r := benchRecord()
			for i := left.Add(-1); i >= 0; i = left.Add(-1) {
				r.Dedup = fmt.Sprint(log, i) // every ingress publish has one
				if err := c.Publish(f.Context(), log, r); err != nil {
					f.Errorf("Publish: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func benchConsume(b *testing.B, newHarness func(t testing.TB) Harness) {
	f := newFixture(b, newHarness(b))
	c := f.connect()
	prepare := func(log string, n int) { publishAll(f, c, log, n, 64) }
	rounds(b, f, c, prepare, func(log string, n int) {
		sub := f.subscribe(c, log, "g", backend.Options{Window: 256, Buffer: 1 << 20})
		for range n {
			consumeOne(f, sub)
		}
		f.closeSub(sub) // the acks are with the broker then
	})
}

func consumeOne(f *fixture, sub backend.Subscription) {
	d, err := sub.Receive(f.Context())
	if err != nil {
		f.Fatalf("Receive: %v", err)
	}
	if err := sub.Ack(d); err != nil {
		f.Fatalf("Ack: %v", err)
	}
}

func benchThrough(b *testing.B, newHarness func(t testing.TB) Harness) {
	f := newFixture(b, newHarness(b))
	c := f.connect()
	rounds(b, f, c, func(string, int) {}, func(log string, n int) {
		sub := f.subscribe(c, log, "g")
		r := benchRecord()
		for range n {
			f.must("Publish", c.Publish(f.Context(), log, r))
			consumeOne(f, sub)
		}
		f.closeSub(sub)
	})
}
