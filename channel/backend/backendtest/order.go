package backendtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

var orderProperties = []property{
	{"one key does not leave its order", orderOfOneMember},
	{"a member that closes does not break the order", func(f *fixture) {
		takeover(f, func(_ backend.Backend, s backend.Subscription) { f.closeSub(s) })
	}},
	{"a backend that closes does not break the order", func(f *fixture) {
		takeover(f, func(b backend.Backend, _ backend.Subscription) { f.closeBackend(b) })
	}},
	{"a killed member does not break the order", func(f *fixture) {
		f.needKill()
		takeover(f, func(b backend.Backend, _ backend.Subscription) { f.kill(b) })
	}},
	{"a cut member does not break the order", func(f *fixture) {
		f.needCut()
		takeover(f, func(b backend.Backend, _ backend.Subscription) { f.cut(b) })
	}},
	{"members that come and go do not break the order", comeAndGo},
}

func orderOfOneMember(f *fixture) {
	b := f.connect()
	log := f.log(b, true, "g1", "g2")
	keys := []string{"a", "b", "c", "", "č \xff.*>", "a.b"}
	const each = 10
	for n := range each {
		for _, k := range keys {
			f.publishRecord(b, log, record(fmt.Sprint(n), k))
		}
	}
	for _, g := range []string{"g1", "g2"} {
		next := make(map[string]int)
		last := make(map[string]*backend.Delivery)
		sub := f.subscribe(b, log, g, backend.Options{Window: 5})
		for range each * len(keys) {
			d := f.receive(sub)
			f.ack(sub, d)
			if d.Key == "" {
				continue
			}
			if idOf(d) != fmt.Sprint(next[d.Key]) {
				f.Errorf("key %q: received record %s, want %d", d.Key, idOf(d), next[d.Key])
			}
			next[d.Key]++
			if l := last[d.Key]; l != nil && (l.Partition != d.Partition || l.Offset >= d.Offset) {
				f.Errorf("key %q: %d/%d, and then %d/%d", d.Key, l.Partition, l.Offset, d.Partition, d.Offset)
			}
			last[d.Key] = d
		}
		f.closeSub(sub)
		f.wantLag(b, log, g, 0)
	}
}

// takeover: a member holds records of several keys when it ends; more are
// published before and after, and another member takes over.
func takeover(f *fixture, end func(backend.Backend, backend.Subscription)) {
	o := newOrdering(f)
	o.publish(5)
	ending := f.connect()
	first := o.join(ending, "the first member", true)
	o.awaitHeld(first, len(orderKeys))
	o.settleSome(first, 3)
	o.publish(5)
	o.join(f.connect(), "the second member", false)
	o.publish(5)
	<-time.After(watch) // for the second to receive what is the first's still
	o.leave(first)
	end(ending, first.sub)
	o.publish(5)
	o.finish()
}

// comeAndGo has members join and leave while records are published.
func comeAndGo(f *fixture) {
	o := newOrdering(f)
	bs := []backend.Backend{f.connect(), f.connect()}
	var members []*orderMember
	for i := range 8 {
		members = append(members, o.join(bs[i%2], fmt.Sprint("member ", i), false))
		o.publish(4)
		if len(members) > 2 {
			m := members[0]
			members = members[1:]
			o.leave(m)
			f.closeSub(m.sub)
		}
		o.publish(2)
	}
	o.finish()
}

var orderKeys = []string{"a", "b", "c"}

// ordering is a group of an Ordered log at work, watched by a keeper.
type ordering struct {
	f      *fixture
	ctx    context.Context
	cancel context.CancelFunc
	admin  backend.Backend
	log    string
	next   int
	keeper *keeper
	wg     sync.WaitGroup
}

type orderMember struct {
	name   string
	sub    backend.Subscription
	frozen bool // acks nothing by itself

	// The keeper's lock guards these.
	gone bool
	held []*backend.Delivery
}

func newOrdering(f *fixture) *ordering {
	o := &ordering{f: f, admin: f.connect(), keeper: newKeeper()}
	o.log = f.log(o.admin, true, "g")
	o.ctx, o.cancel = context.WithCancel(f.ctx())
	f.Cleanup(func() {
		o.cancel()
		o.wg.Wait()
	})
	return o
}

// publish appends n records of each key.
func (o *ordering) publish(n int) {
	o.f.Helper()
	for range n {
		for _, k := range orderKeys {
			o.f.publishRecord(o.admin, o.log, record(fmt.Sprint(o.next), k))
		}
		o.next++
	}
}

// join starts a member: it handles each record in a goroutine of its own, for
// a short random time.
func (o *ordering) join(b backend.Backend, name string, frozen bool) *orderMember {
	o.f.Helper()
	m := &orderMember{name: name, frozen: frozen, sub: o.f.subscribe(b, o.log, "g", backend.Options{Window: 12})}
	o.wg.Go(func() {
		for {
			d, err := m.sub.Receive(o.ctx)
			if err != nil {
				if o.ctx.Err() == nil && !o.keeper.isGone(m) {
					o.f.Errorf("%s: Receive: %v", name, err)
				}
				return
			}
			if err := o.keeper.delivered(m, d); err != nil {
				o.f.Error(err)
			}
			if !m.frozen {
				o.wg.Go(func() {
					time.Sleep(rand.N(2 * time.Millisecond)) // its work
					o.settle(m, d)
				})
			}
		}
	})
	return m
}

func (o *ordering) settle(m *orderMember, d *backend.Delivery) {
	if !o.keeper.acking(m, d) {
		return
	}
	if err := m.sub.Ack(d); err != nil && !o.keeper.isGone(m) {
		o.f.Errorf("%s: Ack: %v", m.name, err)
	}
}

// awaitHeld waits until a frozen member holds n records.
func (o *ordering) awaitHeld(m *orderMember, n int) {
	o.f.Helper()
	o.f.eventually(m.name, func() error {
		if have := len(o.keeper.heldBy(m)); have < n {
			return fmt.Errorf("holds %d records, want %d", have, n)
		}
		return nil
	})
}

// settleSome acks the nth and every further nth record that m holds.
func (o *ordering) settleSome(m *orderMember, nth int) {
	for i, d := range o.keeper.heldBy(m) {
		if i%nth == nth-1 {
			o.settle(m, d)
		}
	}
}

// leave tells the keeper that m is about to end.
func (o *ordering) leave(m *orderMember) { o.keeper.leaving(m) }

// finish waits until all is settled.
func (o *ordering) finish() {
	o.f.Helper()
	o.f.wantLag(o.admin, o.log, "g", 0)
	o.cancel()
	o.wg.Wait()
	if missing := o.keeper.missing(o.next); len(missing) > 0 {
		o.f.Errorf("settled, but never received: %s", missing)
	}
}
