package natsbackend

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

// A broker may have passed over a stream that it could not read. Nobody makes it
// anew, with nothing in it, nor takes its logs for settled.
func TestAStreamThatIsGoneIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	c := brokertest.Start(t)
	b := connectTo(t, Config{URL: "nats://" + c.Address})
	log := makeLog(t, b, false, "g")
	publish(t, b, log, "accepted")
	shard := shardOf(log)
	stream := b.names.shardStream(shard)
	if err := b.js.DeleteStream(ctxOf(t), stream); err != nil {
		t.Fatal(err)
	}

	// A process that has seen the stream, and one that has not.
	for name, b := range map[string]*Backend{"before": b, "after": connectTo(t, Config{URL: "nats://" + c.Address})} {
		_, err := b.EnsureLog(ctxOf(t), backend.Log{Name: nameInShard(shard)})
		wantError(t, name+": EnsureLog of another log in the stream", err, backend.ErrUnavailable)
		if err != nil && (!strings.Contains(err.Error(), stream+",") || !strings.Contains(err.Error(), b.names.shardNote(shard))) {
			t.Errorf("%s: the error does not say what to do: %v", name, err)
		}
		wantError(t, name+": Publish", b.Publish(ctxOf(t), log, &backend.Record{}), backend.ErrUnavailable)
		wantError(t, name+": EnsureGroup", b.EnsureGroup(ctxOf(t), log, backend.Group{Name: "g"}), backend.ErrUnavailable)
		_, err = b.Lag(ctxOf(t), log, "g")
		wantError(t, name+": Lag", err, backend.ErrUnavailable)
		_, err = b.Subscribe(ctxOf(t), log, "g", backend.Options{})
		wantError(t, name+": Subscribe", err, backend.ErrUnavailable)
		makeLogInShard(t, b, (shard+1)%shardCount) // others go on
	}

	// What somebody wants to be rid of can be deleted; and who gives the records
	// up can go on.
	if err := b.DeleteLog(ctxOf(t), log); err != nil {
		t.Error(err)
	}
	if err := b.catalog.stream.Purge(ctxOf(t), jetstream.WithPurgeSubject(b.names.shardNote(shard))); err != nil {
		t.Fatal(err)
	}
	publish(t, b, makeLogInShard(t, b, shard), "to the stream made again")
}

// Without the catalog the records of all logs would belong to nobody.
func TestACatalogThatIsGoneIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	c := Config{URL: "nats://" + brokertest.Start(t).Address}
	b := connectTo(t, c)
	makeLog(t, b, false, "g")
	if err := b.js.DeleteStream(ctxOf(t), b.names.catalogStream()); err != nil {
		t.Fatal(err)
	}
	again, err := Connect(ctxOf(t), c)
	if err == nil {
		closeBackend(t, again)
	}
	wantError(t, "Connect", err, backend.ErrUnavailable)
	if err != nil && !strings.Contains(err.Error(), "stream "+b.names.catalogStream()+",") {
		t.Errorf("the error does not name the stream: %v", err)
	}
}

// Those who start at once make the same streams: one that was made between another's
// two looks, at the stream and then at its note, was never gone.
func TestAStreamThatIsBeingMadeIsNotTakenForGone(t *testing.T) {
	t.Parallel()
	c := Config{URL: "nats://" + brokertest.Start(t).Address}
	for _, c.Prefix = range []string{"one", "two"} {
		all := []*Backend{connectTo(t, c), connectTo(t, c), connectTo(t, c)}
		for shard := range shardCount {
			log := nameInShard(shard)
			var starting errgroup.Group
			for _, b := range all {
				starting.Go(func() error {
					if _, err := b.EnsureLog(ctxOf(t), backend.Log{Name: log}); err != nil {
						return err
					}
					return b.EnsureGroup(ctxOf(t), log, backend.Group{Name: "g"})
				})
			}
			if err := starting.Wait(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
