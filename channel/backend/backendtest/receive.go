package backendtest

import (
	"context"
	"errors"
	"sync"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

var receiveProperties = []property{
	{"a cancelled Receive loses nothing", cancelledReceive},
	{"the window is not exceeded", windowHolds},
	{"a large record does not block a small buffer", smallBuffer},
	{"Receive does not outlive its subscription", receiveAfterClose},
	{"a second Close does nothing", doubleClose},
	{"a subscription does not end with the context of Subscribe", subscribeContext},
	{"Subscribe to what is missing does not succeed", subscribeMissing},
	{"deleting the group does not leave Receive waiting", deletedGroupEnds},
	{"deleting the log does not leave Receive waiting", deletedLogEnds},
}

func cancelledReceive(f *fixture) {
	const n = 100
	b := f.connect()
	log := f.log(b, false, "g")
	want := ids("r", n)
	f.publish(b, log, want[:n/4]...) // there is something to receive from the start
	ctx := f.ctx()
	var publishing sync.WaitGroup
	defer publishing.Wait()
	publishing.Go(func() {
		for _, id := range want[n/4:] {
			if err := b.Publish(ctx, log, record(id)); err != nil {
				f.Errorf("Publish: %v", err)
				return
			}
		}
	})
	sub := f.subscribe(b, log, "g", backend.Options{Window: 4})
	var got []string
	take := func(d *backend.Delivery) {
		got = append(got, idOf(d))
		f.ack(sub, d)
	}
	for i := range n / 2 {
		short, cancel := context.WithCancel(ctx)
		if i%5 == 0 {
			cancel() // before, and otherwise during
		} else {
			publishing.Go(cancel)
		}
		switch d, err := sub.Receive(short); {
		case err == nil:
			take(d)
		case d != nil:
			f.Fatalf("Receive returned both a record and %v", err)
		case !errors.Is(err, context.Canceled):
			f.Fatalf("cancelled Receive: %v", err)
		}
		cancel()
	}
	for len(got) < n {
		take(f.receive(sub))
	}
	wantSet(f, "received", got, want)
	f.fence(b, log, sub)
	f.wantLag(b, log, "g", 0)
}

// windowHolds: what one member may not have goes to another.
func windowHolds(f *fixture) {
	const n, window = 10, 3
	b := f.connect()
	log := f.log(b, false, "g")
	f.publish(b, log, ids("r", n)...)
	sub := f.subscribe(b, log, "g", backend.Options{Window: window})
	held := f.receiveN(sub, window)
	f.nothing(sub, "the window is full")
	other := f.subscribe(f.connect(), log, "g")
	rest := f.receiveN(other, n-window)
	wantSet(f, "both members", append(idsOf(held), idsOf(rest)...), ids("r", n))
	f.closeSub(other)
	for range n - window {
		f.ack(sub, held[0])
		held = append(held[1:], f.receive(sub))
	}
	f.nothing(sub, "the window is full again")
	f.ack(sub, held...)
	f.wantLag(b, log, "g", 0)
}

func smallBuffer(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g")
	size := b.Limits().MaxRecordBytes
	for range 3 {
		f.publishRecord(b, log, &backend.Record{Data: make([]byte, size)})
		f.publishRecord(b, log, &backend.Record{Data: make([]byte, 1)})
	}
	sub := f.subscribe(b, log, "g", backend.Options{Buffer: 1})
	total := 0
	for _, d := range f.receiveN(sub, 6) {
		total += len(d.Data)
		f.ack(sub, d)
	}
	if want := 3 * (size + 1); total != want {
		f.Errorf("%d bytes received, want %d", total, want)
	}
}

func receiveAfterClose(f *fixture) {
	b, short := f.connect(), f.connect()
	log := f.log(b, false, "g")
	closed, orphan := f.subscribe(b, log, "g"), f.subscribe(short, log, "g")
	f.publish(b, log, "1", "2") // there would be something to receive
	waiting := make(chan error, 2)
	for _, sub := range []backend.Subscription{closed, orphan} {
		ctx := f.ctx()
		go func() {
			for {
				if _, err := sub.Receive(ctx); err != nil {
					waiting <- err
					return
				}
			}
		}()
	}
	f.closeSub(closed)
	f.closeBackend(short)
	for range 2 {
		wantError(f, "Receive while it is closed", <-waiting, backend.ErrClosed)
	}
	for what, sub := range map[string]backend.Subscription{"subscription": closed, "backend": orphan} {
		d, err := sub.Receive(f.ctx())
		if d != nil {
			f.Errorf("Receive after Close of the %s returned a record", what)
		}
		wantError(f, "Receive after Close of the "+what, err, backend.ErrClosed)
	}
}

func doubleClose(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g")
	f.publish(b, log, "1")
	sub := f.subscribe(b, log, "g")
	d := f.receive(sub)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := sub.Close(); err != nil {
				f.Errorf("close subscription: %v", err)
			}
		})
	}
	wg.Wait()
	next := f.subscribe(b, log, "g")
	if got := f.receive(next); idOf(got) != idOf(d) {
		f.Errorf("received %s, want %s", idOf(got), idOf(d))
	}
	f.closeSub(sub) // it must not take away what the next one holds
	f.nothing(f.subscribe(b, log, "g"), "another member holds it")
}

func subscribeContext(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g")
	ctx, cancel := context.WithCancel(f.ctx())
	sub, err := b.Subscribe(ctx, log, "g", backend.Options{})
	if err != nil {
		f.Fatalf("Subscribe: %v", err)
	}
	cancel()
	f.fence(b, log, sub)
	f.closeSub(sub)
}

func subscribeMissing(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g")
	for what, name := range map[string][2]string{"log": {newName(), "g"}, "group": {log, "none"}} {
		_, err := b.Subscribe(f.ctx(), name[0], name[1], backend.Options{})
		wantError(f, "Subscribe to a missing "+what, err, backend.ErrNotFound)
	}
}

func deletedGroupEnds(f *fixture) {
	b, other := f.connect(), f.connect()
	log := f.log(b, false, "g", "kept")
	holding, waiting := f.subscribe(b, log, "g"), f.subscribe(other, log, "g")
	f.deletedEnds([]backend.Subscription{holding, waiting}, func() error {
		return b.DeleteGroup(f.ctx(), log, "g")
	})
	f.ensureGroups(b, log, "g") // another group of the same name
	_, err := holding.Receive(f.ctx())
	wantError(f, "Receive of the former group", err, backend.ErrNotFound)
	f.fence(b, log, f.subscribe(b, log, "kept"))
}

func deletedLogEnds(f *fixture) {
	b, other := f.connect(), f.connect()
	log := f.log(b, false, "g1", "g2")
	f.deletedEnds([]backend.Subscription{f.subscribe(b, log, "g1"), f.subscribe(other, log, "g2")}, func() error {
		return b.DeleteLog(f.ctx(), log)
	})
}

// deletedEnds checks that waiting Receives and later ones say ErrNotFound.
func (f *fixture) deletedEnds(subs []backend.Subscription, deleteIt func() error) {
	f.Helper()
	errs := make(chan error, len(subs))
	for _, sub := range subs {
		ctx := f.ctx()
		go func() {
			_, err := sub.Receive(ctx)
			errs <- err
		}()
	}
	if err := deleteIt(); err != nil {
		f.Fatalf("delete: %v", err)
	}
	for range subs {
		wantError(f, "Receive amid deletion", <-errs, backend.ErrNotFound)
	}
	for _, sub := range subs {
		_, err := sub.Receive(f.ctx())
		wantError(f, "Receive after deletion", err, backend.ErrNotFound)
	}
}
