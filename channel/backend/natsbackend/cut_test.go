package natsbackend

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/backendtest"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

// cuttable is a connection through a proxy.
func cuttable(t testing.TB, c *brokertest.Broker) (*Backend, *brokertest.Proxy) {
	t.Helper()
	p := brokertest.StartProxy(t, c.Address)
	return connectTo(t, Config{URL: "nats://" + p.Address()}), p
}

// cutOff returns when b knows that its connection is gone.
func cutOff(t testing.TB, b *Backend, p *brokertest.Proxy) {
	t.Helper()
	p.Cut()
	eventually(t, "connection that is cut", func() error {
		if b.nc.IsConnected() {
			return errors.New("still connected")
		}
		return nil
	})
}

// mend returns when b is connected again and every member knows.
func mend(t testing.TB, b *Backend, p *brokertest.Proxy, members ...*member) {
	t.Helper()
	inboxes := make([]string, len(members))
	for i, m := range members {
		inboxes[i] = m.inboxNow()
	}
	p.Mend()
	for i, m := range members {
		eventually(t, "member that has reconnected", func() error {
			if m.inboxNow() == inboxes[i] {
				return errors.New("not yet")
			}
			return nil
		})
	}
	if err := b.nc.FlushWithContext(ctxOf(t)); err != nil {
		t.Fatal(err)
	}
}

func (m *member) inboxNow() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inbox
}

func TestAcksWhileCutOffAreNotForgotten(t *testing.T) {
	t.Parallel()
	const records = 10
	c := brokertest.Start(t)
	b, p := cuttable(t, c)
	log := makeLog(t, b, false, "g")
	sub := subscribe(t, b, log, "g", backend.Options{Window: records})
	publish(t, b, log, numbered("", records)...)
	var ds []*backend.Delivery
	for range records {
		ds = append(ds, receive(t, sub))
	}
	cutOff(t, b, p)
	ackAll(t, sub, ds...)
	mend(t, b, p, sub)
	other := connectTo(t, Config{URL: "nats://" + c.Address})
	eventually(t, "acks", settled(t, other, log, "g"))
	publish(t, other, log, "next")
	if d := receive(t, sub); string(d.Data) != "next" {
		t.Fatalf("received %q, redelivered %v; want the record that was published last", d.Data, d.Redelivered)
	}
}

// What was asked for before the cut may stand at the broker still, beside what
// is asked for after it.
func TestACutDoesNotHaveAMemberHoldMoreThanItsWindow(t *testing.T) {
	t.Parallel()
	const window, cuts, records = 4, 3, 40
	c := brokertest.Start(t)
	b, p := cuttable(t, c)
	log := makeLog(t, b, false, "g")
	sub := subscribe(t, b, log, "g", backend.Options{Window: window})
	for range cuts {
		cutOff(t, b, p)
		mend(t, b, p, sub)
	}
	other := connectTo(t, Config{URL: "nats://" + c.Address})
	publish(t, other, log, numbered("", records)...)
	for range records {
		d := receive(t, sub)
		// Whatever the broker had sent by now is here, or nearly.
		if err := b.nc.FlushWithContext(ctxOf(t)); err != nil {
			t.Fatal(err)
		}
		// The broker takes acks in beside requests: for a moment it may count a record
		// that was acked together with the one that took its place.
		eventually(t, "window", func() error {
			i, err := other.consumerInfo(ctxOf(t), sub.entry.shard, sub.consumer)
			if err == nil && i.NumAckPending > window {
				err = fmt.Errorf("%d records are with the member, its window is %d", i.NumAckPending, window)
			}
			return err
		})
		ackAll(t, sub, d)
	}
}

// The one that leads is cut off while records flow; the other takes over.
func TestACutLeaderDoesNotBreakTheOrder(t *testing.T) {
	t.Parallel()
	const records = 60
	c := brokertest.Start(t)
	a, p := cuttable(t, c)
	b := connectTo(t, Config{URL: "nats://" + c.Address})
	log := makeLog(t, a, true, "g")
	for i := range records {
		r := &backend.Record{Key: fmt.Sprint(i % 3), Data: []byte(fmt.Sprint(i))}
		if err := b.Publish(ctxOf(t), log, r); err != nil {
			t.Fatal(err)
		}
	}
	leader := subscribe(t, a, log, "g", backend.Options{Window: 16})
	first := receive(t, leader)
	follower := subscribe(t, b, log, "g", backend.Options{Window: 16})
	ackAll(t, leader, first)
	handled := map[string]int{first.Key: 0}
	for range records / 3 {
		d := receive(t, leader)
		checkOrder(t, handled, d)
		ackAll(t, leader, d)
	}
	held := []*backend.Delivery{receive(t, leader), receive(t, leader)}
	cutOff(t, a, p)
	ackAll(t, leader, held...) // nobody hears of it
	for handled["0"] < records-3 || handled["1"] < records-2 || handled["2"] < records-1 {
		d := receive(t, follower)
		checkOrder(t, handled, d)
		ackAll(t, follower, d)
	}
	eventually(t, "records", settled(t, b, log, "g"))
}

// checkOrder: first deliveries of a key come in the order of the log.
func checkOrder(t *testing.T, handled map[string]int, d *backend.Delivery) {
	t.Helper()
	var n int
	if _, err := fmt.Sscan(string(d.Data), &n); err != nil {
		t.Fatal(err)
	}
	last, seen := handled[d.Key]
	switch {
	case seen && n <= last: // once more
	case seen && n != last+3, !seen && n > 2:
		t.Fatalf("key %s: record %d came after %d", d.Key, n, last)
	default:
		handled[d.Key] = n
	}
}

// The connection is slow, then cut and made again in mid-stream, and slow again.
func TestASlowAndBrokenConnectionLosesNoRecord(t *testing.T) {
	t.Parallel()
	c := brokertest.Start(t)
	var loads []*backendtest.Load
	var proxies []*brokertest.Proxy
	for _, ordered := range []bool{false, true} {
		b, p := cuttable(t, c)
		loads, proxies = append(loads, backendtest.StartLoad(t, b, ordered)), append(proxies, p)
	}
	each := func(do func(*brokertest.Proxy)) {
		for _, p := range proxies {
			do(p)
		}
	}
	for range 2 {
		goesOn(t, loads, 20)
		// Records, acks and confirmations arrive in pieces.
		each(func(p *brokertest.Proxy) { p.Poison("slicer", map[string]int64{"average_size": 100, "delay": 3000}) })
		goesOn(t, loads, 10)
		each((*brokertest.Proxy).Cut)
		time.Sleep(50 * time.Millisecond) // long enough for attempts that fail
		each((*brokertest.Proxy).Mend)
		goesOn(t, loads, 10)
		each((*brokertest.Proxy).Clear)
	}
	for _, l := range loads {
		l.Finish(t)
	}
}

// goesOn waits until so many more records of each load went through.
func goesOn(t *testing.T, loads []*backendtest.Load, more int) {
	t.Helper()
	for _, l := range loads {
		l.GoesOn(t, more)
	}
}

// Whatever a connection goes through: nothing is lost, the order is kept, and all
// goes on afterwards.
func TestATroubledConnectionLosesNoRecord(t *testing.T) {
	t.Parallel()
	c := brokertest.Start(t)
	for _, ordered := range []bool{false, true} {
		t.Run(fmt.Sprint("ordered ", ordered), func(t *testing.T) {
			t.Parallel()
			b, p := cuttable(t, c)
			l := backendtest.StartLoad(t, b, ordered)
			for _, trouble := range brokertest.Troubles() {
				l.GoesOn(t, 20)
				p.Poison(trouble.Kind, trouble.Attributes)
				if trouble.Breaks {
					eventually(t, trouble.Kind, func() error {
						if b.nc.IsConnected() {
							return errors.New("still connected")
						}
						return nil
					})
				} else {
					l.GoesOn(t, 10)
				}
				p.Clear()
				l.GoesOn(t, 10)
			}
			l.Finish(t)
		})
	}
}
