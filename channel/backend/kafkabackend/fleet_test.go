package kafkabackend

import (
	"fmt"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

// A leader that is gone takes with it what others had acked to it and it had not
// committed, unless they say so again.
func TestAcksThatADeadLeaderDidNotCommitAreNotLost(t *testing.T) {
	t.Parallel()
	address := startFake(t, 1).ListenAddrs()[0]
	for round := range 4 { // who leads is a matter of chance
		c := Config{Brokers: []string{address}, Prefix: newPrefix(), AckWait: testAckWait}
		p := brokertest.StartProxy(t, address)
		cut := c
		cut.Dial = through(p)
		a, b := connectTo(t, cut), connectTo(t, c)
		log := makeLog(t, a, false, "g")
		// The first one holds one record and has no room for more: it grants.
		first := subscribe(t, a, log, "g", backend.Options{Window: 1})
		publish(t, b, log, "held")
		held := receive(t, first)
		second := subscribe(t, b, log, "g", backend.Options{Window: 8})
		for i := range 20 {
			publish(t, b, log, fmt.Sprint(i))
		}
		for range 20 {
			must(t, second.Ack(receive(t, second)))
		}
		p.Cut() // whatever a has committed by now
		must(t, second.Close())
		third := subscribe(t, b, log, "g", backend.Options{})
		if d := receive(t, third); string(d.Data) != string(held.Data) {
			t.Fatalf("round %d: received %q, which was acked", round, d.Data)
		} else {
			must(t, third.Ack(d))
		}
		eventually(t, "lag", settledAll(t, b, log, "g"))
	}
}

// A process that was expelled, though it lives, comes back as a new one; what it
// held then is nobody's but the others'.
func TestAProcessThatWasExpelledTakesPartAgain(t *testing.T) {
	t.Parallel()
	address := startFake(t, 1).ListenAddrs()[0]
	c := Config{Brokers: []string{address}, Prefix: newPrefix(), AckWait: testAckWait}
	a, b := connectTo(t, c), connectTo(t, c)
	log := makeLog(t, a, false, "g")
	publish(t, a, log, "1")
	sub := subscribe(t, a, log, "g", backend.Options{})
	stale := receive(t, sub)
	other := subscribe(t, b, log, "g", backend.Options{Window: 1})
	a.fleet.mu.Lock()
	me := a.fleet.roster.me
	a.fleet.mu.Unlock()
	b.fleet.tell(message{Kind: msgExpel, Peer: me, Upto: whatever})
	eventually(t, "another identity", func() error {
		if a.fleet.is(me) || !a.fleet.holding() {
			return fmt.Errorf("still %s", me)
		}
		return nil
	})
	// One of the two gets it now, and the stale ack does nothing.
	must(t, sub.Ack(stale))
	must(t, sub.Close())
	d := receive(t, other)
	if string(d.Data) != "1" || !d.Redelivered {
		t.Errorf("received %q, redelivered %v", d.Data, d.Redelivered)
	}
	must(t, other.Ack(d))
	eventually(t, "lag", settledAll(t, b, log, "g"))
	again := subscribe(t, a, log, "g", backend.Options{})
	must(t, other.Close())
	publish(t, b, log, "2")
	if d := receive(t, again); string(d.Data) != "2" {
		t.Errorf("received %q", d.Data)
	} else {
		must(t, again.Ack(d))
	}
}

// Two processes make the same logs at the same time.
func TestALogMadeTwiceAtOnceHasOneTopic(t *testing.T) {
	t.Parallel()
	address := startFake(t, 1).ListenAddrs()[0]
	c := Config{Brokers: []string{address}, Prefix: newPrefix()}
	a, b := connectTo(t, c), connectTo(t, c)
	for i := range 10 {
		log := fmt.Sprint("test/", i)
		made := make(chan backend.Incarnation, 2)
		for _, by := range []*Backend{a, b} {
			go func() {
				i, err := by.EnsureLog(t.Context(), backend.Log{Name: log})
				if err != nil {
					t.Error(err)
				}
				made <- i
			}()
		}
		if one, two := <-made, <-made; one != two {
			t.Errorf("incarnations %s and %s of one log", one, two)
		}
	}
	// Who comes later reads the catalog from its start, and agrees.
	late := connectTo(t, c)
	for i := range 10 {
		log := fmt.Sprint("test/", i)
		if topicNamed(t, a, log) != topicNamed(t, late, log) {
			t.Errorf("log %d has two topics", i)
		}
	}
}
