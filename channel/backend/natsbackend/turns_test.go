package natsbackend

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

// A process that starts with many channels asks for all of them at once. The broker
// answers each question in time; to answer all takes it several times as long.
func TestManyLogsAreMadeAtOnceAtASlowBroker(t *testing.T) {
	t.Parallel()
	const logs, timeout = 3000, 2500 * time.Millisecond
	p := brokertest.StartProxy(t, brokertest.Start(t).Address)
	b := connectTo(t, Config{URL: "nats://" + p.Address(), RequestTimeout: timeout})
	p.Poison("bandwidth", map[string]int64{"rate": 200})
	makeAtOnce(t, b, logs)
	p.Clear()
	for _, i := range []int{0, logs - 1} {
		log := fmt.Sprint("test/", i)
		if err := b.EnsureGroup(ctxOf(t), log, backend.Group{Name: "g"}); err != nil {
			t.Fatal(err)
		}
		sub := subscribe(t, b, log, "g", backend.Options{})
		publish(t, b, log, "through")
		ackAll(t, sub, receive(t, sub))
	}
}

// Each change of what a stream takes costs the server more the more it takes: logs that
// are made at once have it done once, or nearly.
func TestLogsThatAreMadeAtOnceChangeEachStreamOnce(t *testing.T) {
	t.Parallel()
	const logs = 1000
	url := "nats://" + brokertest.Start(t).Address
	b := connectTo(t, Config{URL: url})
	b.gather = patience
	advisories, err := b.nc.SubscribeSync("$JS.EVENT.ADVISORY.STREAM.*.>")
	if err != nil {
		t.Fatal(err)
	}
	makeAtOnce(t, b, logs)
	if err := b.nc.FlushWithContext(ctxOf(t)); err != nil {
		t.Fatal(err)
	}
	changes, _, err := advisories.Pending()
	if err != nil {
		t.Fatal(err)
	}
	// Not all begin before the first is done.
	if changes < shardCount || changes > shardCount*3/2 {
		t.Errorf("%d streams were made or changed %d times for %d logs", shardCount, changes, logs)
	}
}

// makeAtOnce makes logs test/0 and so on.
func makeAtOnce(t *testing.T, b *Backend, logs int) {
	t.Helper()
	var making errgroup.Group
	for i := range logs {
		making.Go(func() error {
			_, err := b.EnsureLog(t.Context(), backend.Log{Name: fmt.Sprint("test/", i)})
			return err
		})
	}
	if err := making.Wait(); err != nil {
		t.Fatal(err)
	}
}
