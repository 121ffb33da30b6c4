package backendtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

var settleProperties = []property{
	{"unacked records are not lost by closing the subscription", unackedAfterClose},
	{"unacked records are not kept from a waiting member", unackedToWaiting},
	{"unacked records are not lost by closing the backend", unackedAfterBackendClose},
	{"acked records do not come back after reopening", ackedStays},
	{"an ack does not settle earlier records", ackLaterOnly},
	{"acks in any order settle no other", ackAnyOrder},
	{"a second Ack does nothing", doubleAck},
	{"a slow handler causes no duplicate", slowHandler},
	{"an ack of a former incarnation settles nothing", ackOfFormerLog},
	{"an ack of a former group settles nothing", ackOfFormerGroup},
	{"Lag does not forget or invent records", lagCounts},
	{"Lag does not take a younger record for the oldest", lagNamesTheOldest},
}

func unackedAfterClose(f *fixture) {
	b := f.connect()
	for _, ordered := range []bool{false, true} {
		log := f.log(b, ordered, "g")
		want := ids("r", 10)
		f.publish(b, log, want...)
		// One never receives, but may have fetched; one received some.
		for n := range 3 {
			sub := f.subscribe(b, log, "g")
			f.receiveN(sub, 4*n)
			f.closeSub(sub)
		}
		sub := f.subscribe(b, log, "g")
		ds := f.receiveN(sub, len(want))
		wantSet(f, "after Close", idsOf(ds), want)
		f.ack(sub, ds...)
		f.fence(b, log, sub)
	}
}

func unackedToWaiting(f *fixture) {
	b := f.connect()
	for _, ordered := range []bool{false, true} {
		log := f.log(b, ordered, "g")
		f.publish(b, log, "1", "2")
		holder := f.subscribe(b, log, "g")
		f.receiveN(holder, 2)
		waiting := f.subscribe(f.connect(), log, "g")
		got := f.receiveAsync(waiting, 2)
		f.closeSub(holder)
		wantSet(f, "the waiting member", idsOf(f.await(got, 2)), []string{"1", "2"})
	}
}

func unackedAfterBackendClose(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g1", "g2")
	want := ids("r", 5)
	f.publish(b, log, want...)
	holder := f.connect()
	for _, g := range []string{"g1", "g2"} {
		f.receiveN(f.subscribe(holder, log, g), 3)
	}
	f.closeBackend(holder)
	for _, g := range []string{"g1", "g2"} {
		wantSet(f, g, idsOf(f.receiveN(f.subscribe(b, log, g), len(want))), want)
	}
}

func ackedStays(f *fixture) {
	b := f.connect()
	for _, ordered := range []bool{false, true} {
		log := f.log(b, ordered, "g")
		f.publish(b, log, ids("r", 10)...)
		reader := f.connect()
		sub := f.subscribe(reader, log, "g")
		f.ack(sub, f.receiveN(sub, 5)...)
		f.closeSub(sub)
		f.wantLag(b, log, "g", 5)
		sub = f.subscribe(reader, log, "g")
		f.ack(sub, f.receiveN(sub, 5)...)
		f.closeBackend(reader)
		f.wantLag(b, log, "g", 0)
		f.fence(b, log, f.subscribe(f.connect(), log, "g"))
	}
}

func ackLaterOnly(f *fixture) {
	b := f.connect()
	for _, ordered := range []bool{false, true} {
		log := f.log(b, ordered, "g")
		f.publish(b, log, ids("r", 6)...)
		for _, closeIt := range []func(backend.Backend, backend.Subscription){
			func(_ backend.Backend, s backend.Subscription) { f.closeSub(s) },
			func(b backend.Backend, _ backend.Subscription) { f.closeBackend(b) },
		} {
			reader := f.connect()
			sub := f.subscribe(reader, log, "g")
			lag, err := b.Lag(f.ctx(), log, "g")
			if err != nil {
				f.Fatalf("Lag: %v", err)
			}
			ds := f.receiveN(sub, int(lag.Records))
			f.ack(sub, ds[1], ds[len(ds)-1])
			closeIt(reader, sub)
			f.wantLag(b, log, "g", lag.Records-2)
		}
		sub := f.subscribe(b, log, "g")
		f.ack(sub, f.receiveN(sub, 2)...)
		f.fence(b, log, sub)
	}
}

func ackAnyOrder(f *fixture) {
	const n = 40
	b := f.connect()
	log := f.log(b, false, "g")
	want := ids("r", n)
	f.publish(b, log, want...)
	sub := f.subscribe(b, log, "g")
	ds := f.receiveN(sub, n)
	rand.Shuffle(n, func(i, j int) { ds[i], ds[j] = ds[j], ds[i] })
	for i, d := range ds[:n/2] {
		f.ack(sub, d)
		f.wantLag(b, log, "g", int64(n-i-1))
	}
	f.closeSub(sub)
	sub = f.subscribe(b, log, "g")
	rest := f.receiveN(sub, n/2)
	wantSet(f, "after reopening", idsOf(rest), idsOf(ds[n/2:]))
	f.ack(sub, rest...)
	f.fence(b, log, sub)
}

func doubleAck(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g")
	f.publish(b, log, "1", "2")
	sub := f.subscribe(b, log, "g")
	ds := f.receiveN(sub, 2)
	for range 3 {
		f.ack(sub, ds[0])
	}
	f.wantLag(b, log, "g", 1)
	f.ack(sub, ds[0])
	f.closeSub(sub)
	sub = f.subscribe(b, log, "g")
	d := f.receive(sub)
	if idOf(d) != idOf(ds[1]) {
		f.Fatalf("received %s, want %s", idOf(d), idOf(ds[1]))
	}
	f.ack(sub, d, d, ds[1])
	f.fence(b, log, sub)
}

// slowHandler holds records for three times the ack wait, while another member
// is ready to take them.
func slowHandler(f *fixture) {
	b := f.connect()
	for _, ordered := range []bool{false, true} {
		log := f.log(b, ordered, "g")
		f.publish(b, log, "1", "2", "3")
		slow := f.subscribe(b, log, "g")
		held := f.receiveN(slow, 3)
		other := f.subscribe(f.connect(), log, "g")
		got := f.receiveAsync(other, 1)
		select {
		case d := <-got:
			f.Fatalf("record %s went to another member while the first was slow", idOf(d))
		case <-time.After(3*f.h.Facts.AckWait + watch):
		}
		f.ack(slow, held...)
		f.closeSub(slow)
		f.publish(b, log, "marker")
		if d := f.await(got, 1)[0]; idOf(d) != "marker" {
			f.Fatalf("received %s, which was acked, want the marker", idOf(d))
		} else {
			f.ack(other, d)
		}
		f.wantLag(b, log, "g", 0)
	}
}

func ackOfFormerLog(f *fixture) {
	b := f.connect()
	log := newName()
	for round := range 2 {
		f.ensureLog(b, backend.Log{Name: log})
		f.ensureGroups(b, log, "g")
		f.publish(b, log, fmt.Sprint("old-", round))
		sub := f.subscribe(b, log, "g")
		old := f.receive(sub)
		if err := b.DeleteLog(f.ctx(), log); err != nil {
			f.Fatalf("DeleteLog: %v", err)
		}
		f.ensureLog(b, backend.Log{Name: log})
		f.ensureGroups(b, log, "g")
		f.publish(b, log, "new")
		_ = sub.Ack(old) // what it says is nobody's business
		_ = sub.Close()
		f.wantLag(b, log, "g", 1)
		if d := f.receive(f.subscribe(b, log, "g")); idOf(d) != "new" {
			f.Errorf("received %s, want new", idOf(d))
		}
		if err := b.DeleteLog(f.ctx(), log); err != nil {
			f.Fatalf("DeleteLog: %v", err)
		}
	}
}

func ackOfFormerGroup(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g", "other")
	f.publish(b, log, "old")
	sub := f.subscribe(b, log, "g")
	old := f.receive(sub)
	if err := b.DeleteGroup(f.ctx(), log, "g"); err != nil {
		f.Fatalf("DeleteGroup: %v", err)
	}
	f.ensureGroups(b, log, "g")
	f.publish(b, log, "new")
	_ = sub.Ack(old)
	_ = sub.Close()
	f.wantLag(b, log, "g", 1)
	f.wantLag(b, log, "other", 2)
	if d := f.receive(f.subscribe(b, log, "g")); idOf(d) != "new" {
		f.Errorf("received %s, want new", idOf(d))
	}
}

func lagCounts(f *fixture) {
	b, other := f.connect(), f.connect()
	log := f.log(b, false, "g1", "g2")
	if lag := f.wantLag(b, log, "g1", 0); !lag.Oldest.IsZero() {
		f.Errorf("nothing to settle, but the oldest is of %v", lag.Oldest)
	}
	f.publish(b, log, ids("r", 4)...)
	sub := f.subscribe(b, log, "g1")
	ds := f.receiveN(sub, 4) // delivered or not makes no difference
	wantOldest := func(n int64, want time.Time) {
		f.Helper()
		f.wantLag(other, log, "g1", n)
		// A broker of several may hear of the two at different times.
		f.eventually("Lag", func() error {
			lag, err := other.Lag(f.ctx(), log, "g1")
			if got := lag.Oldest; err == nil && !got.Truncate(time.Millisecond).Equal(want.Truncate(time.Millisecond)) {
				err = fmt.Errorf("with %d to settle the oldest is of %v, want %v", n, got, want)
			}
			return err
		})
	}
	wantOldest(4, ds[0].Stored)
	f.ack(sub, ds[2])
	wantOldest(3, ds[0].Stored)
	f.ack(sub, ds[0])
	wantOldest(2, ds[1].Stored)
	f.ack(sub, ds[1])
	wantOldest(1, ds[3].Stored)
	f.ack(sub, ds[3])
	if lag := f.wantLag(other, log, "g1", 0); !lag.Oldest.IsZero() {
		f.Errorf("nothing to settle, but the oldest is of %v", lag.Oldest)
	}
	f.wantLag(other, log, "g2", 4)
	for what, name := range map[string][2]string{"log": {newName(), "g1"}, "group": {log, "none"}} {
		_, err := b.Lag(f.ctx(), name[0], name[1])
		wantError(f, "Lag of a missing "+what, err, backend.ErrNotFound)
	}
}

// lagNamesTheOldest in whatever order acks come, also of what came again, and with
// the records of others in between.
func lagNamesTheOldest(f *fixture) {
	const n = 16
	b, other := f.connect(), f.connect()
	log, beside := f.log(b, false, "g1", "g2"), f.log(b, false, "g1")
	for _, id := range ids("r", n) {
		f.publish(b, log, id)
		f.publish(b, beside, id)
	}
	sub := f.subscribe(b, log, "g1")
	stored := map[string]time.Time{}
	left := f.receiveN(sub, n)
	slices.SortFunc(left, func(x, y *backend.Delivery) int { return x.Stored.Compare(y.Stored) })
	for _, d := range left {
		stored[idOf(d)] = d.Stored
	}
	first := left[0].Stored
	random := rand.New(rand.NewPCG(1, 2))
	for len(left) > 0 {
		if len(left) == n/2 { // the rest comes again
			f.closeSub(sub)
			sub = f.subscribe(other, log, "g1")
			left = f.receiveN(sub, n/2)
			slices.SortFunc(left, func(x, y *backend.Delivery) int {
				return stored[idOf(x)].Compare(stored[idOf(y)])
			})
		}
		i := random.IntN(len(left))
		f.ack(sub, left[i])
		left = slices.Delete(left, i, i+1)
		lag := f.wantLag(other, log, "g1", int64(len(left)))
		var want time.Time
		if len(left) > 0 {
			want = stored[idOf(left[0])]
		}
		if !lag.Oldest.Truncate(time.Millisecond).Equal(want.Truncate(time.Millisecond)) {
			f.Errorf("with %d to settle the oldest is of %v, want %v", len(left), lag.Oldest, want)
		}
	}
	if lag := f.wantLag(other, log, "g2", n); !lag.Oldest.Truncate(time.Millisecond).Equal(first.Truncate(time.Millisecond)) {
		f.Errorf("of the other group the oldest is of %v, want %v", lag.Oldest, first)
	}
}
