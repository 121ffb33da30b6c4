package natsbackend

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// As with replicas: the records of a request come after the word that it is over.
func TestAStatusThatOvertakesRecordsDoesNotAskForMore(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var d demand
	d.pulls = []pull{{id: 1, batch: 4, left: 3}, {id: 2, batch: 4, left: 4}}
	d.asked = 7
	if _, known, ended := d.over(1, 1, now); !known || ended {
		t.Fatalf("known %v, ended %v: two records are on their way", known, ended)
	}
	if d.asked != 6 {
		t.Errorf("%d are asked for, want 6", d.asked)
	}
	d.got(0, now)
	d.got(0, now)
	if len(d.pulls) != 1 || d.pulls[0].id != 2 || d.asked != 4 {
		t.Errorf("pulls %v, %d asked for; want the second with 4", d.pulls, d.asked)
	}
	if _, known, ended := d.over(2, 1<<40, now); !known || !ended || d.asked != 0 || len(d.pulls) > 0 {
		t.Errorf("known %v, ended %v, pulls %v, %d asked for; want nothing", known, ended, d.pulls, d.asked)
	}
	if _, known, _ := d.over(1, 0, now); known {
		t.Error("a request that is over is known")
	}
}

// What is asked for just after the deletion is not answered by anybody.
func TestARequestThatCrossesADeletionDoesNotLeaveReceiveWaiting(t *testing.T) {
	t.Parallel()
	b := connectTo(t, Config{Server: startServer(t, ServerConfig{})})
	log := makeLog(t, b, false, "g")
	sub := subscribe(t, b, log, "g", backend.Options{})
	sub.mu.Lock()
	sub.forget()
	b.rejoin(sub) // the broker drops what was asked for
	if err := b.js.DeleteConsumer(ctxOf(t), sub.stream, sub.consumer); err != nil {
		t.Fatal(err)
	}
	sub.ask()
	sub.mu.Unlock()
	_, err := sub.Receive(ctxOf(t))
	wantError(t, "Receive", err, backend.ErrNotFound)
}

// Four records are with another member when newer ones come, for a request that
// was given up.
func TestNewerRecordsDoNotStandInForThoseThatAreMissing(t *testing.T) {
	t.Parallel()
	m := &member{held: map[uint64]*holding{9: {}, 10: {}, 11: {}, 12: {}}}
	o := &order{m: m}
	if n := o.complete(4, jetstream.SequenceInfo{Consumer: 8, Stream: 8}); n != 4 {
		t.Errorf("%d records are missing, want 4", n)
	}
}
