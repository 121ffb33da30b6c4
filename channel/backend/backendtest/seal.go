package backendtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

var sealProperties = []property{
	{"a sealed log takes no record", sealRefuses},
	{"sealing loses no record that was accepted", sealAmidPublishing},
}

func sealRefuses(f *fixture) {
	b, other := f.connect(), f.connect()
	log := newName()
	i := f.ensureLog(b, backend.Log{Name: log})
	f.ensureGroups(b, log, "g")
	f.publish(other, log, "1", "2")
	sub := f.subscribe(b, log, "g")
	first := f.receive(sub)
	f.must("Seal", b.Seal(f.ctx(), log))
	f.must("Seal again", other.Seal(f.ctx(), log))
	if again := f.ensureLog(other, backend.Log{Name: log}); again != i {
		f.Errorf("incarnation %q, after Seal %q", i, again)
	}
	for _, b := range []backend.Backend{b, other, f.connect()} {
		err := b.Publish(f.ctx(), log, record("late"))
		wantError(f, "Publish to a sealed log", err, backend.ErrSealed)
		wantNotError(f, "Publish to a sealed log", err, backend.ErrUnavailable)
	}
	f.ack(sub, first)
	f.ack(sub, f.receive(sub))
	f.wantLag(b, log, "g", 0)
	f.ensureGroups(b, log, "later") // for a swap that starts again
	f.wantLag(b, log, "later", 0)
	f.must("DeleteLog", b.DeleteLog(f.ctx(), log))
	f.ensureLog(b, backend.Log{Name: log})
	f.ensureGroups(b, log, "g")
	f.publish(other, log, "not sealed any more")
}

// sealAmidPublishing: whatever Publish answers is what happened.
func sealAmidPublishing(f *fixture) {
	const publishers, most = 8, 200
	b := f.connect()
	log := f.log(b, false, "g")
	ctx := f.ctx()
	sealed := make(chan struct{})
	begun := make(chan struct{}, publishers)
	accepted := make(chan []string, publishers)
	var unsure sync.Map // ids of records that were not confirmed
	for _, p := range ids("p", publishers) {
		mine := f.connect()
		go func() {
			var ok []string
			for _, id := range ids(p, most) {
				r := record(id)
				r.Dedup = id
				err := mine.Publish(ctx, log, r)
				for errors.Is(err, backend.ErrUnavailable) && ctx.Err() == nil {
					unsure.Store(id, true)
					err = mine.Publish(ctx, log, r)
				}
				if len(ok) == 0 {
					begun <- struct{}{}
				}
				if err != nil {
					wantError(f, "Publish amid Seal", err, backend.ErrSealed)
					accepted <- ok
					return
				}
				ok = append(ok, id)
			}
			<-sealed // it was too quick
			wantError(f, "Publish after Seal", mine.Publish(ctx, log, record("late")), backend.ErrSealed)
			accepted <- ok
		}()
	}
	for range publishers {
		<-begun
	}
	err := b.Seal(ctx, log)
	close(sealed)
	wantError(f, "Publish after Seal", b.Publish(ctx, log, record("late")), backend.ErrSealed)
	var want []string
	for range publishers {
		want = append(want, <-accepted...)
	}
	f.must("Seal", err)
	sub := f.subscribe(b, log, "g")
	var got []string
	for len(got) < len(want) {
		d := f.receive(sub)
		f.ack(sub, d)
		if _, ok := unsure.Load(idOf(d)); !ok || slices.Contains(want, idOf(d)) {
			got = append(got, idOf(d))
		}
	}
	wantSet(f, "of a sealed log", got, want)
	f.eventually("Lag", func() error { // of those that were stored all the same
		lag, err := b.Lag(f.ctx(), log, "g")
		if err != nil || lag.Records == 0 {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, watch)
		defer cancel()
		if d, err := sub.Receive(ctx); err == nil {
			if _, ok := unsure.Load(idOf(d)); !ok {
				f.Errorf("received %s, which was not published or came before", idOf(d))
			}
			f.ack(sub, d)
		}
		return fmt.Errorf("%d records are not settled", lag.Records)
	})
}
