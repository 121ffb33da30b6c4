package backendtest

import (
	"strings"
	"sync/atomic"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

var groupProperties = []property{
	{"no group misses a record", everyGroup},
	{"no record goes to two members", membersShare},
	{"a member that is full does not keep records from another", fullMember},
	{"nothing published after EnsureGroup is missed", beforeFirstSubscribe},
	{"nothing published before EnsureGroup is delivered", nothingFromBefore},
	{"EnsureGroup amid publishing does not blur the start", cleanStart},
	{"EnsureGroup again does not move the position", ensureGroupAgain},
	{"groups of the same name in two logs are not one", sameGroupName},
	{"acks of one group do not settle for another", groupsApart},
}

func everyGroup(f *fixture) {
	b := f.connect()
	groups := []string{"g1", "g2", "g3"}
	for _, ordered := range []bool{false, true} {
		log := f.log(b, ordered, groups...)
		want := ids("r", 20)
		f.publish(f.connect(), log, want...)
		for _, g := range groups {
			sub := f.subscribe(f.connect(), log, g)
			ds := f.receiveN(sub, len(want))
			wantSet(f, g, idsOf(ds), want)
			f.ack(sub, ds...)
			f.closeSub(sub)
			f.wantLag(b, log, g, 0)
		}
	}
}

func membersShare(f *fixture) {
	const n = 200
	b, other := f.connect(), f.connect()
	for _, ordered := range []bool{false, true} {
		log := f.log(b, ordered, "g")
		c := newCollector(f)
		ctx := f.ctx()
		done := make(chan struct{}, 4)
		for i := range 4 {
			sub := f.subscribe([]backend.Backend{b, other}[i%2], log, "g", backend.Options{Window: 4})
			go func() {
				c.receiveAndAck(ctx, sub)
				done <- struct{}{}
			}()
		}
		want := ids("r", n)
		f.publish(b, log, want...)
		c.waitFor(ctx, n)
		for range 4 {
			<-done
		}
		wantSet(f, "all members together", c.ids(), want)
		f.wantLag(b, log, "g", 0)
	}
}

// fullMember: one member holds its window full and does not ack; the other
// gets on with the rest.
func fullMember(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g")
	slow := f.subscribe(b, log, "g", backend.Options{Window: 1})
	f.publish(b, log, "held")
	held := f.receive(slow)
	quick := f.subscribe(f.connect(), log, "g", backend.Options{Window: 1})
	want := ids("r", 20)
	f.publish(b, log, want...)
	var got []string
	for range want {
		d := f.receive(quick)
		got = append(got, idOf(d))
		f.ack(quick, d)
	}
	wantSet(f, "the other member", got, want)
	f.ack(slow, held)
	f.wantLag(b, log, "g", 0)
}

func beforeFirstSubscribe(f *fixture) {
	b, publisher, late := f.connect(), f.connect(), f.connect()
	for _, ordered := range []bool{false, true} {
		log := f.log(b, ordered, "g")
		want := ids("r", 20)
		f.publish(publisher, log, want...)
		wantSet(f, "the first member", idsOf(f.receiveN(f.subscribe(late, log, "g"), len(want))), want)
	}
}

func nothingFromBefore(f *fixture) {
	b, other := f.connect(), f.connect()
	log := f.log(b, false)
	f.publish(b, log, ids("nobody", 3)...)
	f.ensureGroups(b, log, "g1")
	f.publish(b, log, ids("g1 only", 3)...)
	f.ensureGroups(other, log, "g2")
	f.fence(b, log, f.subscribe(b, log, "g2"))
	f.wantLag(b, log, "g2", 0)
	sub := f.subscribe(other, log, "g1")
	var got []string // in any order: the log is not an Ordered one
	for _, id := range idsOf(f.receiveN(sub, 4)) {
		if !strings.HasPrefix(id, "marker-") {
			got = append(got, id)
		}
	}
	wantSet(f, "the earlier group", got, ids("g1 only", 3))
}

func cleanStart(f *fixture) {
	b, other := f.connect(), f.connect()
	log := f.log(b, false)
	ctx := f.ctx()
	var begun, ended, stop atomic.Int64
	all := ids("r", 100_000)
	published := make(chan int64, 1)
	f.Cleanup(func() {
		for range published { // until the publisher has ended
		}
	})
	go func() {
		defer close(published)
		for i, id := range all {
			begun.Store(int64(i) + 1)
			if err := b.Publish(ctx, log, record(id)); err != nil {
				if f.Context().Err() == nil {
					f.Errorf("Publish: %v", err)
				}
				return
			}
			ended.Store(int64(i) + 1)
			if s := stop.Load(); s > 0 && int64(i) >= s+20 {
				published <- int64(i) + 1
				return
			}
		}
	}()
	f.eventually("publishing", func() error {
		if ended.Load() < 20 {
			return errNotYet
		}
		return nil
	})
	before := ended.Load() // these must not be delivered
	f.ensureGroups(other, log, "g")
	after := begun.Load() // the ones after these must
	stop.Store(after)
	last, ok := <-published
	if !ok {
		f.FailNow()
	}
	wanted := make(map[string]bool)
	for _, id := range all[after:last] {
		wanted[id] = true
	}
	forbidden := make(map[string]bool)
	for _, id := range all[:before] {
		forbidden[id] = true
	}
	for sub := f.subscribe(other, log, "g"); len(wanted) > 0; {
		d := f.receive(sub)
		if forbidden[idOf(d)] {
			f.Fatalf("received %s, which was stored before EnsureGroup began", idOf(d))
		}
		delete(wanted, idOf(d))
		f.ack(sub, d)
	}
}

func ensureGroupAgain(f *fixture) {
	b, other := f.connect(), f.connect()
	log := f.log(b, false, "g")
	f.publish(b, log, "1", "2")
	sub := f.subscribe(b, log, "g")
	ds := f.receiveN(sub, 2)
	f.ack(sub, ds[0])
	f.closeSub(sub)
	f.ensureGroups(other, log, "g")
	sub = f.subscribe(other, log, "g")
	if d := f.receive(sub); idOf(d) != idOf(ds[1]) {
		f.Errorf("received %s, want %s", idOf(d), idOf(ds[1]))
	} else {
		f.ack(sub, d)
	}
	f.ensureGroups(b, log, "g")
	f.fence(b, log, sub)
}

func sameGroupName(f *fixture) {
	b := f.connect()
	one, two := f.log(b, false, "g"), f.log(b, false, "g")
	f.publish(b, one, "one")
	f.fence(b, two, f.subscribe(b, two, "g"))
	if err := b.DeleteGroup(f.ctx(), two, "g"); err != nil {
		f.Fatalf("DeleteGroup: %v", err)
	}
	if d := f.receive(f.subscribe(b, one, "g")); idOf(d) != "one" {
		f.Errorf("received %s, want one", idOf(d))
	}
}

func groupsApart(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g1", "g2")
	f.publish(b, log, "1", "2")
	sub := f.subscribe(b, log, "g1")
	f.ack(sub, f.receiveN(sub, 2)...)
	f.wantLag(b, log, "g1", 0)
	f.wantLag(b, log, "g2", 2)
	if err := b.DeleteGroup(f.ctx(), log, "g1"); err != nil {
		f.Fatalf("DeleteGroup: %v", err)
	}
	wantSet(f, "the other group", idsOf(f.receiveN(f.subscribe(b, log, "g2"), 2)), []string{"1", "2"})
}
