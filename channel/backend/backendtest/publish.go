package backendtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

var dedupProperties = []property{
	{"the same Dedup is not stored twice", sameDedupOnce},
	{"equal Dedup of two logs does not drop", dedupPerLog},
	{"Dedup of a former incarnation does not drop", dedupPerIncarnation},
	{"Dedup of a refused record does not drop", dedupOfRefused},
	{"the same event twice is not taken for one", sameEventTwice},
}

var publishProperties = []property{
	{"Publish to a missing log does not succeed", publishMissing},
	{"a refused record does not take others with it", partialFailure},
	{"concurrent publishers lose nothing", concurrentPublishers},
	{"a cancelled Publish does not claim success", cancelledPublish},
}

func sameDedupOnce(f *fixture) {
	f.needDedup()
	b, other := f.connect(), f.connect()
	log := f.log(b, false, "g")
	for i := range 3 {
		r := record(fmt.Sprint("copy-", i))
		r.Dedup = "same"
		f.publishRecord([]backend.Backend{b, other, b}[i], log, r)
	}
	sub := f.subscribe(b, log, "g")
	if d := f.receive(sub); idOf(d) != "copy-0" {
		f.Errorf("received %q, want copy-0", idOf(d))
	} else {
		f.ack(sub, d)
	}
	f.fence(b, log, sub)
}

func dedupPerLog(f *fixture) {
	b := f.connect()
	for _, log := range []string{f.log(b, false, "g"), f.log(b, true, "g"), f.log(b, false, "g")} {
		r := record("1")
		r.Dedup = "same"
		f.publishRecord(b, log, r)
		f.receive(f.subscribe(b, log, "g"))
	}
}

func dedupPerIncarnation(f *fixture) {
	b := f.connect()
	log := newName()
	for range 2 {
		f.ensureLog(b, backend.Log{Name: log})
		f.ensureGroups(b, log, "g")
		r := record("1")
		r.Dedup = "same"
		f.publishRecord(b, log, r)
		sub := f.subscribe(b, log, "g")
		f.ack(sub, f.receive(sub))
		f.closeSub(sub)
		if err := b.DeleteLog(f.ctx(), log); err != nil {
			f.Fatalf("DeleteLog: %v", err)
		}
	}
}

func dedupOfRefused(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g")
	r := &backend.Record{Dedup: "same", Data: make([]byte, b.Limits().MaxRecordBytes+1)}
	wantError(f, "Publish", b.Publish(f.ctx(), log, r), backend.ErrTooLarge)
	r.Data = []byte("small")
	f.publishRecord(b, log, r)
	f.receive(f.subscribe(b, log, "g"))
}

func sameEventTwice(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g")
	r := record("same")
	r.Header = append(r.Header, backend.Header{Name: "ce-source", Value: "/same"})
	f.publishRecord(b, log, r)
	f.publishRecord(b, log, r)
	r.Dedup = "one"
	f.publishRecord(b, log, r)
	r.Dedup = "two"
	f.publishRecord(b, log, r)
	sub := f.subscribe(b, log, "g")
	f.ack(sub, f.receiveN(sub, 4)...)
	f.fence(b, log, sub)
}

func publishMissing(f *fixture) {
	b := f.connect()
	log := newName()
	err := b.Publish(f.ctx(), log, record("1"))
	wantError(f, "Publish to a log never made", err, backend.ErrNotFound)
	wantNotError(f, "Publish to a log never made", err, backend.ErrUnavailable)
	f.ensureLog(b, backend.Log{Name: log})
	f.ensureGroups(b, log, "g")
	sub := f.subscribe(b, log, "g")
	f.fence(b, log, sub)
	if err := b.DeleteLog(f.ctx(), log); err != nil {
		f.Fatalf("DeleteLog: %v", err)
	}
	wantError(f, "Publish to a deleted log", b.Publish(f.ctx(), log, record("1")), backend.ErrNotFound)
}

// partialFailure publishes good and bad records at once, so that a backend
// which sends them together has to tell them apart.
func partialFailure(f *fixture) {
	b := f.connect()
	log, sealed := f.log(b, false, "g"), f.log(b, false, "g")
	if err := b.Seal(f.ctx(), sealed); err != nil {
		f.Fatalf("Seal: %v", err)
	}
	tooLarge := make([]byte, b.Limits().MaxRecordBytes+1)
	ctx := f.ctx()
	var wg sync.WaitGroup
	want := ids("good", 64)
	for _, id := range want {
		wg.Go(func() {
			if err := b.Publish(ctx, log, record(id)); err != nil {
				f.Errorf("Publish of %s: %v", id, err)
			}
		})
		wg.Go(func() {
			wantError(f, "Publish", b.Publish(ctx, log, &backend.Record{Data: tooLarge}), backend.ErrTooLarge)
		})
		wg.Go(func() { wantError(f, "Publish", b.Publish(ctx, sealed, record(id)), backend.ErrSealed) })
		wg.Go(func() { wantError(f, "Publish", b.Publish(ctx, log+"-none", record(id)), backend.ErrNotFound) })
	}
	wg.Wait()
	sub := f.subscribe(b, log, "g", backend.Options{Window: 128})
	got := f.receiveN(sub, len(want))
	wantSet(f, "received", idsOf(got), want)
	f.ack(sub, got...)
	f.fence(b, log, sub)
	f.wantLag(b, sealed, "g", 0)
}

// concurrentPublishers has publishers and members of two groups at work at the
// same time, on two connections.
func concurrentPublishers(f *fixture) {
	const publishers, each = 8, 25
	bs := []backend.Backend{f.connect(), f.connect()}
	log := f.log(bs[0], false, "g1", "g2")
	ctx := f.ctx()
	var wg sync.WaitGroup
	var want []string
	for p := range publishers {
		mine := ids(fmt.Sprint("p", p), each)
		want = append(want, mine...)
		wg.Go(func() {
			for _, id := range mine {
				if err := bs[p%2].Publish(ctx, log, record(id)); err != nil {
					f.Errorf("Publish: %v", err)
				}
			}
		})
	}
	groups := map[string]*collector{"g1": newCollector(f), "g2": newCollector(f)}
	for group, c := range groups {
		for _, b := range bs {
			sub := f.subscribe(b, log, group, backend.Options{Window: 8})
			wg.Go(func() { c.receiveAndAck(ctx, sub) })
			wg.Go(func() { c.receiveAndAck(ctx, sub) })
		}
		wg.Go(func() { c.waitFor(ctx, len(want)) })
	}
	wg.Wait()
	for group, c := range groups {
		wantSet(f, group, c.ids(), want)
		f.wantLag(bs[0], log, group, 0)
	}
}

func cancelledPublish(f *fixture) {
	const n = 64
	b := f.connect()
	log := f.log(b, false, "g")
	var mu sync.Mutex
	accepted := make(map[string]bool)
	attempted := make(map[string]bool)
	try := func(ctx context.Context, id string) {
		err := b.Publish(ctx, log, record(id))
		if err != nil && ctx.Err() != nil {
			wantError(f, "cancelled Publish", err, ctx.Err())
			wantError(f, "cancelled Publish", err, backend.ErrUnavailable)
		} else if err != nil {
			f.Errorf("Publish: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		attempted[id] = true
		if err == nil {
			accepted[id] = true
		}
	}
	ended, cancel := context.WithCancel(f.Context())
	cancel()
	try(ended, "ended")
	late, cancel := context.WithDeadline(f.Context(), time.Now().Add(-time.Second))
	defer cancel()
	try(late, "late")
	var wg sync.WaitGroup
	for _, id := range ids("raced", n) {
		ctx, cancel := context.WithCancelCause(f.Context())
		wg.Go(func() { try(ctx, id) })
		wg.Go(func() { cancel(errors.New("the suite's cause")) })
	}
	wg.Wait()
	f.publish(b, log, "last")
	accepted["last"], attempted["last"] = true, true

	sub := f.subscribe(b, log, "g", backend.Options{Window: 2 * n})
	for len(accepted) > 0 {
		d := f.receive(sub)
		if !attempted[idOf(d)] {
			f.Fatalf("received %q, which was not published or came before", idOf(d))
		}
		delete(attempted, idOf(d))
		delete(accepted, idOf(d))
		f.ack(sub, d)
	}
}
