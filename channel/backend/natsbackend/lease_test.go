package natsbackend

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

func TestALeaseIsNotTakenOverBeforeItsTime(t *testing.T) {
	t.Parallel()
	const ttl = time.Second // the least that the server knows
	s := startServer(t, ServerConfig{})
	first := connectTo(t, Config{Server: s}).newLease("test", ttl)
	second := connectTo(t, Config{Server: s}).newLease("test", ttl)
	if err := first.acquire(ctxOf(t)); err != nil {
		t.Fatal(err)
	}
	if err := first.acquire(ctxOf(t)); err != nil {
		t.Fatalf("renewal: %v", err)
	}
	until := first.until
	eventually(t, "lease of one that does not renew it", func() error { return second.acquire(ctxOf(t)) })
	if early := time.Until(until); early > 0 {
		t.Errorf("taken over %v before its end", early)
	}
	if first.held() || !second.held() {
		t.Errorf("the first holds it: %v, the second: %v", first.held(), second.held())
	}
	wantError(t, "renewal by the first", first.acquire(ctxOf(t)), errConflict)
	first.release(ctxOf(t))
	if err := second.acquire(ctxOf(t)); err != nil {
		t.Errorf("the second lost it when the first let go: %v", err)
	}
	second.release(ctxOf(t))
	if err := first.acquire(ctxOf(t)); err != nil {
		t.Errorf("the first cannot have what the second released: %v", err)
	}
}

// A renewal that comes late, but in time, must not leave a Receive waiting that
// found the lease nearly over.
func TestALateRenewalDoesNotLeaveReceiveWaiting(t *testing.T) {
	t.Parallel()
	b := connectTo(t, Config{Server: startServer(t, ServerConfig{})})
	log := makeLog(t, b, true, "g")
	publish(t, b, log, "1", "2")
	sub := subscribe(t, b, log, "g", backend.Options{})
	ackAll(t, sub, receive(t, sub))
	sub.order.until.Store(0) // as after a pause of the process
	d := receive(t, sub)
	if string(d.Data) != "2" {
		t.Fatalf("received %q, want the second record", d.Data)
	}
}

// A leads and holds a record; B takes over, settles it and dies with others. A
// leads again: what it still has of the first does not stand for one of them.
func TestARecordOfALostLeaseDoesNotStandForOneThatIsMissing(t *testing.T) {
	t.Parallel()
	c := brokertest.Start(t)
	a := connectTo(t, Config{URL: "nats://" + c.Address})
	b, p := cuttable(t, c)
	log := makeLog(t, a, true, "g")
	publish(t, a, log, numbered("r", 6)...)

	subA := subscribe(t, a, log, "g", backend.Options{Window: 1})
	slow := receive(t, subA)
	subB := subscribe(t, b, log, "g", backend.Options{Window: 3})
	takeLease(t, a, subA, subB)
	first := receive(t, subB)
	if string(first.Data) != "r0" {
		t.Fatalf("B received %q first, want r0", first.Data)
	}
	ackAll(t, subB, first)
	held := []*backend.Delivery{receive(t, subB), receive(t, subB)}
	cutOff(t, b, p)
	// The later of the two comes back later.
	token := held[1].Token.(*holding)
	if err := a.nc.Publish(token.reply, inProgress); err != nil {
		t.Fatal(err)
	}
	purgeLease(t, a, subA)

	ackAll(t, subA, slow)
	var got []string
	for len(got) < 5 {
		d := receive(t, subA)
		got = append(got, string(d.Data))
		ackAll(t, subA, d)
	}
	if want := numbered("r", 6)[1:]; !slices.Equal(got, want) {
		t.Errorf("received %q, want %q", got, want)
	}
	eventually(t, "records", settled(t, a, log, "g"))
}

// purgeLease has the broker forget who leads m's group.
func purgeLease(t testing.TB, b *Backend, m *member) {
	t.Helper()
	err := b.catalog.stream.Purge(ctxOf(t), jetstream.WithPurgeSubject(b.names.lease(m.consumer)))
	if err != nil {
		t.Fatal(err)
	}
}

// takeLease has to lead in place of from.
func takeLease(t testing.TB, b *Backend, from, to *member) {
	t.Helper()
	eventually(t, "another leader", func() error {
		if to.order.leads() {
			return nil
		}
		if from.order.leads() {
			purgeLease(t, b, from)
		}
		return errors.New("the first leads still")
	})
	eventually(t, "the first", func() error {
		if from.order.phase.Load() != waiting {
			return errors.New("does not know that it does not lead any more")
		}
		return nil
	})
}

// The holder is a process that is stopped (SIGSTOP) and goes on after its lease
// was taken over.
func TestAPausedHolderDoesNotDeliverOnceItsLeaseIsOver(t *testing.T) {
	t.Parallel()
	const before, meanwhile, after = 5, 15, 5
	c := brokertest.Start(t)
	b := connectTo(t, Config{URL: "nats://" + c.Address})
	log := makeLog(t, b, true, "g")
	h := startHolder(t, c, log)
	all := numbered("r", before+meanwhile+after)
	for _, id := range all[:before] {
		publish(t, b, log, id)
		h.expect(t, id)
	}
	eventually(t, "acks", settled(t, b, log, "g"))
	h.pause(t)
	publish(t, b, log, all[before:before+meanwhile]...)
	sub := subscribe(t, b, log, "g", backend.Options{})
	for i, id := range all[before:] {
		if i == meanwhile {
			h.resume(t)
			publish(t, b, log, all[before+meanwhile:]...)
		}
		d := receive(t, sub)
		if string(d.Data) != id {
			t.Fatalf("received %q, want %q", d.Data, id)
		}
		ackAll(t, sub, d)
	}
	if more := h.end(t); len(more) > 0 {
		t.Errorf("the holder, whose lease was over, delivered %q", more)
	}
	eventually(t, "records", settled(t, b, log, "g"))
}

// What the stopped holder has asked for stands at the broker, which answers it
// with what comes back, again and again.
func TestWhatAPausedHolderHasAskedForDoesNotOutliveItsLease(t *testing.T) {
	t.Parallel()
	const before = 18 // so that two requests are open, for many more than are left
	c := brokertest.Start(t)
	b := connectTo(t, Config{URL: "nats://" + c.Address})
	log := makeLog(t, b, true, "g")
	h := startHolder(t, c, log)
	all := numbered("r", before+2)
	for _, id := range all[:before] {
		publish(t, b, log, id)
		h.expect(t, id)
	}
	eventually(t, "acks", settled(t, b, log, "g"))
	h.pause(t)
	publish(t, b, log, all[before:]...)
	sub := subscribe(t, b, log, "g", backend.Options{})
	for _, id := range all[before:] {
		d := receive(t, sub)
		if string(d.Data) != id {
			t.Fatalf("received %q, want %q", d.Data, id)
		}
		ackAll(t, sub, d)
	}
	eventually(t, "records", settled(t, b, log, "g"))
}

func TestARecordThatWentBackDoesNotCountAsHeldUntilItIsHereAgain(t *testing.T) {
	t.Parallel()
	b := connectTo(t, Config{Server: startServer(t, ServerConfig{})})
	log := makeLog(t, b, true, "g")
	publish(t, b, log, "1")
	sub := subscribe(t, b, log, "g", backend.Options{})
	slow := receive(t, sub)
	sub.order.stepDown() // as when the lease was not renewed in time
	sub.mu.Lock()
	held := sub.holds(math.MaxUint64)
	sub.mu.Unlock()
	if held != 0 {
		t.Fatalf("%d records count as held, want none", held)
	}
	publish(t, b, log, "2")
	// Its holder is slow, no more: the first is not handed out once more.
	next := receive(t, sub)
	if string(next.Data) != "2" {
		t.Fatalf("received %q, want the second record", next.Data)
	}
	ackAll(t, sub, slow, next)
	eventually(t, "records", settled(t, b, log, "g"))
}
