package backendtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// restartProperties kill the broker, so each has one of its own.
var restartProperties = []property{
	{"a broker restart in mid-stream loses nothing", restartMidStream},
	{"a broker restart does not forget logs and groups", restartKeepsAll},
	{"a broker restart does not bring back what was acked", restartKeepsAcks},
	{"a broker restart does not make the oldest record to settle younger", restartKeepsOldest},
}

func restartMidStream(f *fixture) {
	f.needRestart()
	const publishers, each, restarts = 4, 60, 2
	b, other := f.connect(), f.connect()
	log := f.log(b, false, "g1", "g2")
	ordered := f.log(b, true, "g1")
	ctx := f.ctx()
	collectors := map[string]*collector{}
	var members, publishing sync.WaitGroup
	for _, c := range []struct{ log, group string }{{log, "g1"}, {log, "g2"}, {ordered, "g1"}} {
		all := newCollector(f)
		collectors[c.log+" "+c.group] = all
		for _, b := range []backend.Backend{b, other} {
			sub := f.subscribe(b, c.log, c.group, backend.Options{Window: 8})
			members.Go(func() { all.receiveAndAck(ctx, sub) })
		}
	}
	var want []string
	for p := range publishers {
		mine := ids(fmt.Sprint("p", p), each)
		want = append(want, mine...)
		publishing.Go(func() {
			for _, id := range mine {
				f.publishStubborn(ctx, b, log, id)
				f.publishStubborn(ctx, other, ordered, id)
			}
		})
	}
	for i := range restarts {
		// Every group is at work when the broker dies.
		for _, c := range collectors {
			c.wait(ctx, publishers*each*(i+1)/(restarts+2))
		}
		f.h.Restart(f.TB)
	}
	publishing.Wait()
	for what, c := range collectors {
		c.waitFor(ctx, len(want))
		wantSet(f, what, c.unique(), want)
	}
	members.Wait()
	f.wantLag(b, log, "g1", 0)
	f.wantLag(b, log, "g2", 0)
	f.wantLag(other, ordered, "g1", 0)
}

// publishStubborn tries until the record is accepted, as an ingress's client does.
func (f *fixture) publishStubborn(ctx context.Context, b backend.Backend, log, id string) {
	r := record(id, "k", id[:2])
	r.Dedup = log + id
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, f.h.Facts.patience()/10)
		err := b.Publish(try, log, r)
		cancel()
		if err == nil {
			return
		}
		if !errors.Is(err, backend.ErrUnavailable) {
			f.Errorf("Publish while the broker restarts: %v", err)
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	f.Errorf("Publish: %v", ctx.Err())
}

func restartKeepsAll(f *fixture) {
	f.needRestart()
	b := f.connect()
	l := backend.Log{Name: newName(), Ordered: true}
	i := f.ensureLog(b, l)
	f.ensureGroups(b, l.Name, "g", "empty")
	sealed := f.log(b, false, "g")
	f.must("Seal", b.Seal(f.ctx(), sealed))
	deleted := f.log(b, false, "g")
	f.must("DeleteLog", b.DeleteLog(f.ctx(), deleted))
	f.must("DeleteGroup", b.DeleteGroup(f.ctx(), l.Name, "empty"))
	f.publish(b, l.Name, "1", "2", "3")
	sub := f.subscribe(b, l.Name, "g")
	held := f.receiveN(sub, 2)

	f.h.Restart(f.TB)
	f.eventually("EnsureLog", func() error {
		again, err := b.EnsureLog(f.ctx(), l)
		if err == nil && again != i {
			f.Errorf("incarnation %q, after the restart %q", i, again)
		}
		return err
	})
	// A publish may be refused for a moment while the connection mends.
	publish := func(log string) (err error) {
		f.eventually("Publish", func() error {
			if err = b.Publish(f.ctx(), log, record("4")); errors.Is(err, backend.ErrUnavailable) {
				return err
			}
			return nil
		})
		return err
	}
	f.must("Publish", publish(l.Name))
	wantError(f, "Publish to a sealed log", publish(sealed), backend.ErrSealed)
	wantError(f, "Publish to a deleted log", publish(deleted), backend.ErrNotFound)
	f.eventually("Lag", func() error {
		_, err := b.Lag(f.ctx(), l.Name, "empty")
		if errors.Is(err, backend.ErrNotFound) {
			return nil
		}
		return fmt.Errorf("of a deleted group: %w", err)
	})
	// What was held may be acked still, or come back; the rest comes.
	f.ack(sub, held...)
	c := f.collect(sub, 4, idsOf(held)...)
	wantSet(f, "after the restart", c.unique(), []string{"1", "2", "3", "4"})
	f.closeSub(sub)
	last := f.connect()
	sub = f.subscribe(last, l.Name, "g")
	f.publish(last, l.Name, "last")
	f.mustArrive(sub, "last")
}

func restartKeepsAcks(f *fixture) {
	f.needRestart()
	flush := f.h.Facts.AckFlush
	if flush < 0 {
		f.Skip("the harness says that acks do not survive a restart (Facts.AckFlush)")
	}
	b := f.connect()
	log := f.log(b, false, "g")
	f.publish(b, log, ids("r", 10)...)
	sub := f.subscribe(b, log, "g")
	ds := f.receiveN(sub, 10)
	f.ack(sub, ds[:9]...)
	f.wantLag(b, log, "g", 1) // the broker has them
	time.Sleep(flush)         // what is promised is a time
	f.h.Restart(f.TB)
	f.closeSub(sub)
	b = f.connect()
	f.wantLag(b, log, "g", 1)
	sub = f.subscribe(b, log, "g")
	if d := f.receive(sub); idOf(d) != idOf(ds[9]) {
		f.Fatalf("received %s, want %s", idOf(d), idOf(ds[9]))
	} else {
		f.ack(sub, d)
	}
	f.fence(b, log, sub)
}

// restartKeepsOldest: what payloads may be deleted is decided by it. It may be older
// than it is, where acks were lost, and never younger.
func restartKeepsOldest(f *fixture) {
	f.needRestart()
	b := f.connect()
	log, beside := f.log(b, false, "g"), f.log(b, false, "g")
	for _, id := range ids("r", 8) {
		f.publish(b, log, id)
		f.publish(b, beside, id)
	}
	sub := f.subscribe(b, log, "g")
	ds := f.receiveN(sub, 8)
	f.ack(sub, ds[1], ds[0], ds[5], ds[7], ds[3]) // left are 2, 4, 6
	f.wantLag(b, log, "g", 3)
	if flush := f.h.Facts.AckFlush; flush > 0 {
		time.Sleep(flush)
	}
	f.h.Restart(f.TB)
	f.closeSub(sub)
	b = f.connect()
	f.eventually("Lag", func() error {
		lag, err := b.Lag(f.ctx(), log, "g")
		switch {
		case err != nil:
			return err
		case lag.Records < 3 || lag.Oldest.IsZero() || lag.Oldest.After(ds[2].Stored):
			f.Errorf("%d to settle, the oldest of %v; want 3 or more, and none younger than of %v", lag.Records, lag.Oldest, ds[2].Stored)
		}
		return nil
	})
}
