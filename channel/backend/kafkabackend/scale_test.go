package kafkabackend

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// TestManyLogs has as many logs as SIDESTEP_LOGS says in one process, idle and at
// work, and prints what that takes. Without it: a few, to see that it works.
func TestManyLogs(t *testing.T) {
	n := 50
	if s := os.Getenv("SIDESTEP_LOGS"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		must(t, err)
	}
	c := Config{Brokers: []string{sharedBroker(t).Address}, Prefix: newPrefix(), RequestTimeout: 60 * time.Second, AckWait: 8 * time.Second}
	for _, what := range []string{"made", "found again"} {
		begun := time.Now()
		b := connect(t, c)
		subs := make([]backend.Subscription, n)
		parallel(t, n, func(i int) error {
			log := fmt.Sprint("scale/", i)
			if _, err := b.EnsureLog(t.Context(), backend.Log{Name: log}); err != nil {
				return err
			}
			return b.EnsureGroup(t.Context(), log, backend.Group{Name: "g"})
		})
		ensured := time.Since(begun)
		parallel(t, n, func(i int) (err error) {
			subs[i], err = b.Subscribe(t.Context(), fmt.Sprint("scale/", i), "g", backend.Options{})
			return err
		})
		first := time.Now()
		parallel(t, n, func(i int) error {
			if err := b.Publish(t.Context(), fmt.Sprint("scale/", i), &backend.Record{Data: []byte("x")}); err != nil {
				return err
			}
			d, err := subs[i].Receive(t.Context())
			if err != nil {
				return err
			}
			return subs[i].Ack(d)
		})
		t.Logf("%d logs %s: %v, an event through each: %v", n, what, ensured.Round(time.Millisecond), time.Since(first).Round(time.Millisecond))
		if n > 1000 {
			measureIdle(t)
		}
		begun = time.Now()
		closeBackend(t, b)
		t.Logf("closed in %v", time.Since(begun).Round(time.Millisecond))
	}
}

func measureIdle(t *testing.T) {
	time.Sleep(10 * time.Second)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before := cpu()
	const over = 20 * time.Second
	time.Sleep(over)
	t.Logf("idle: %.2f%% of a core, %d MiB of heap, %d goroutines",
		100*(cpu()-before).Seconds()/over.Seconds(), m.HeapAlloc>>20, runtime.NumGoroutine())
}

func cpu() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// parallel calls do for all numbers below n, 64 at a time.
func parallel(t *testing.T, n int, do func(int) error) {
	t.Helper()
	var working sync.WaitGroup
	next := make(chan int)
	for range 64 {
		working.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					t.Errorf("log %d: %v", i, err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	working.Wait()
}
