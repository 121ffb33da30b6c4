package backendtest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

var connectionProperties = []property{
	{"a killed process takes no unacked record with it", killedMember},
	{"a killed process does not stop the others", killedPublisher},
	{"Publish on a cut connection does not claim success", cutPublish},
	{"a cut member does not keep its records from others", cutMember},
	{"a cut does not end Receive", cutReceive},
	{"an ack after a cut settles no other record", ackAfterCut},
	{"deletion during a cut does not leave Receive waiting", deletedWhileCut},
}

func killedMember(f *fixture) {
	f.needKill()
	b := f.connect()
	for _, ordered := range []bool{false, true} {
		log := f.log(b, ordered, "g")
		want := ids("r", 20)
		f.publish(b, log, want...)
		victim := f.connect()
		sub := f.subscribe(victim, log, "g", backend.Options{Window: 15})
		held := f.receiveN(sub, 10) // and 5 more may have been fetched
		f.ack(sub, held[3])         // may be lost
		f.kill(victim)
		c := f.collect(f.subscribe(b, log, "g"), len(want), idOf(held[3]))
		wantSet(f, "after the kill", c.unique(), want)
		f.wantLag(b, log, "g", 0)
	}
}

// killedPublisher: what it was told is stored is, and the rest goes on.
func killedPublisher(f *fixture) {
	f.needKill()
	b, victim := f.connect(), f.connect()
	log := f.log(b, false, "g")
	f.publish(victim, log, ids("victim", 20)...)
	f.kill(victim)
	f.publish(b, log, ids("other", 20)...)
	sub := f.subscribe(b, log, "g")
	ds := f.receiveN(sub, 40)
	wantSet(f, "received", idsOf(ds), append(ids("victim", 20), ids("other", 20)...))
	f.ack(sub, ds...)
	f.fence(b, log, sub)
}

func cutPublish(f *fixture) {
	f.needCut()
	b, watcher := f.connect(), f.connect()
	log := f.log(b, false, "g")
	f.publish(b, log, "before")
	mend := f.cut(b)
	ctx, cancel := context.WithTimeout(f.Context(), watch)
	defer cancel()
	var wg sync.WaitGroup
	for _, id := range ids("cut", 8) {
		wg.Go(func() {
			wantError(f, "Publish on a cut connection", b.Publish(ctx, log, record(id)), backend.ErrUnavailable)
		})
	}
	wg.Wait()
	mend()
	f.eventually("Publish after mending", func() error { return b.Publish(f.ctx(), log, record("after")) })
	// "after" may be there more than once, a "cut" one if only its
	// confirmation was lost.
	sub := f.subscribe(watcher, log, "g")
	missing := map[string]bool{"before": true, "after": true}
	for len(missing) > 0 {
		d := f.receive(sub)
		delete(missing, idOf(d))
		f.ack(sub, d)
	}
}

func cutMember(f *fixture) {
	f.needCut()
	b := f.connect()
	for _, ordered := range []bool{false, true} {
		log := f.log(b, ordered, "g")
		want := ids("r", 10)
		f.publish(b, log, want...)
		cut := f.connect()
		sub := f.subscribe(cut, log, "g")
		held := idsOf(f.receiveN(sub, 5))
		mend := f.cut(cut)
		other := f.subscribe(b, log, "g")
		ds := f.receiveN(other, len(want))
		wantSet(f, "the other member", idsOf(ds), want)
		for _, d := range ds {
			if !d.Redelivered && slices.Contains(held, idOf(d)) {
				f.Errorf("record %s came to another member without Redelivered", idOf(d))
			}
		}
		f.ack(other, ds...)
		mend()
		f.closeSub(other)
		f.publish(b, log, "after")
		f.mustArrive(sub, "after")
	}
}

// mustArrive receives and acks until the record comes; what comes before it is
// allowed by the contract at this point.
func (f *fixture) mustArrive(s backend.Subscription, id string) {
	f.Helper()
	for {
		d := f.receive(s)
		f.ack(s, d)
		if idOf(d) == id {
			return
		}
	}
}

func cutReceive(f *fixture) {
	f.needCut()
	b, cut := f.connect(), f.connect()
	log := f.log(b, false, "g")
	sub := f.subscribe(cut, log, "g")
	for round := range 3 {
		got := f.receiveAsync(sub, 1)
		mend := f.cut(cut)
		id := fmt.Sprint("r-", round)
		f.publish(b, log, id)
		mend()
		d := f.await(got, 1)[0]
		if idOf(d) != id {
			f.Errorf("received %s, want %s", idOf(d), id)
		}
		f.ack(sub, d)
		f.wantLag(b, log, "g", 0)
	}
}

// ackAfterCut acks, on a mended connection, records that went to another
// member meanwhile.
func ackAfterCut(f *fixture) {
	f.needCut()
	b, cut := f.connect(), f.connect()
	log := f.log(b, false, "g")
	f.publish(b, log, "1", "2", "3")
	sub := f.subscribe(cut, log, "g")
	stale := f.receiveN(sub, 3)
	mend := f.cut(cut)
	other := f.subscribe(b, log, "g")
	f.ack(other, f.receiveN(other, 3)...)
	f.wantLag(b, log, "g", 0)
	_ = sub.Ack(stale[0]) // while it is cut, and afterwards
	mend()
	for _, d := range stale {
		_ = sub.Ack(d)
	}
	want := ids("r", 10)
	f.publish(b, log, want...)
	f.wantLag(b, log, "g", int64(len(want)))
	f.closeSub(sub)
	ds := f.receiveN(other, len(want))
	wantSet(f, "after the stale acks", idsOf(ds), want)
}

func deletedWhileCut(f *fixture) {
	f.needCut()
	b, cut := f.connect(), f.connect()
	log := f.log(b, false, "g")
	sub := f.subscribe(cut, log, "g")
	errs := make(chan error, 1)
	ctx := f.ctx()
	go func() {
		_, err := sub.Receive(ctx)
		errs <- err
	}()
	mend := f.cut(cut)
	f.must("DeleteGroup", b.DeleteGroup(f.ctx(), log, "g"))
	mend()
	wantError(f, "Receive", <-errs, backend.ErrNotFound)
}
