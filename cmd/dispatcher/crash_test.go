package main

import (
	"sync"
	"testing"
	"time"
)

// These tests kill the dispatcher with SIGKILL while numbered events go through
// a Sequence of three steps, start it again on the same folder, and look for
// every event that was answered 202:
//
//	sender --> [dispatcher] --> step 0 --> step 1 --> step 2 --> ledger
//	  |          ^ SIGKILL         (this process)                  |
//	  +-- accepted posts ------------- missing? -------------------+

// ackFlush is what JetStream takes to write acks to a consumer's file (P3).
const ackFlush = 150 * time.Millisecond

// window is how many records of one subscription are in flight at most.
const window = 256

func TestKillingTheDispatcherLosesNoAcceptedEvent(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode string) {
		const events, clients = 20_000, 32
		r := newTrial(t)
		r.begin(t, sequenceYAML(mode, patient, r.steps[:]...), "", scaled(events, 5*events), clients)
		k := r.killAtRandom(t, scaled(12, 60))
		awaitAll(t, r.sender, r.end)
		awaitQuiet(t, r.end)
		r.alive(t)

		// P3: the deliveries in flight, and those settled whose acks were
		// not in the consumers' files yet, at most one for each step that
		// was called within the time of a flush.
		bound := k.kills*len(r.steps)*window + k.calls
		duplicates := r.end.duplicates()
		t.Logf("%s: %d kills, %d events, %.0f events/s accepted, %d posts refused and %d without an answer, "+
			"%d duplicates at the last step (%.1f a kill; %d step calls came within %v before the kills; P3 allows %d)",
			mode, k.kills, r.events, r.rate(), r.refused.Load(), r.broken.Load(),
			duplicates, float64(duplicates)/float64(k.kills), k.calls, ackFlush, bound)
		if duplicates > bound {
			t.Errorf("%d duplicates after %d kills: at most %d are accounted for", duplicates, k.kills, bound)
		}
	})
}

// killing is what was killed.
type killing struct {
	kills int
	calls int // of steps, shortly before the kills
}

// killAtRandom kills the dispatcher n times at random points of the progress,
// starting it again each time; some of the new processes are killed before they
// are ready.
func (r *trial) killAtRandom(t *testing.T, n int) (k killing) {
	t.Helper()
	const limit = 95 // percent of the way: the last kill has something to hit
	for i, at := range r.moments(n, 2*r.events*limit/100) {
		await(t, "events to move on", func() bool { return t.Failed() || r.progress() >= at })
		time.Sleep(time.Duration(r.dice.roll(30)) * time.Millisecond)
		r.kill()
		k.kills++
		k.calls += r.calls.recent(ackFlush)
		if i%4 == 3 { // while it reads its store
			r.launch(t)
			time.Sleep(time.Duration(r.dice.roll(200)) * time.Millisecond)
			r.kill()
			k.kills++
			k.calls += r.calls.recent(ackFlush)
		}
		r.start(t)
	}
	return k
}

// TestKillingTheDispatcherBesideAFailingStepLosesNoAcceptedEvent: an event
// reaches the last step, or the dead letter sink if the step in the middle
// refuses it or does not take it in all its attempts.
func TestKillingTheDispatcherBesideAFailingStepLosesNoAcceptedEvent(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode string) {
		const events, clients = 4_000, 16
		const delivery = "timeout: PT0.5S, retry: 10, backoffPolicy: linear, backoffDelay: PT0.05S"
		r := newTrial(t)
		r.steps[1] = startEndpoint(t, flaky(t, r.calls, r.dice))
		dead := newLedger()
		sink := startEndpoint(t, deadLetters(t, dead))
		yaml := sequenceYAML(mode, delivery+", deadLetterSink: {uri: \""+sink.url()+"\"}", r.steps[:]...)
		r.begin(t, yaml, "", scaled(events, 10*events), clients)

		restarted := r.restartAtRandom(t, r.steps[1], scaled(5, 30))
		k := r.killAtRandom(t, scaled(5, 30))
		restarted()
		awaitAll(t, r.sender, r.end, dead)
		r.alive(t)
		t.Logf("%s: %d kills, %d events, %.0f events/s accepted; %d at the last step (%d twice or more), %d dead letters",
			mode, k.kills, r.events, r.rate(), r.end.reached(), r.end.duplicates(), dead.reached())
		for event := range r.events {
			if indigestible(event) && (r.end.hasEvent(event) || !dead.hasEvent(event)) {
				t.Errorf("event %d, which a step refuses, went on past it or is no dead letter", event)
			}
		}
	})
}

// restartAtRandom takes a step away, and brings it back, n times beside what
// the test does. The function that it returns waits for the last time.
func (r *trial) restartAtRandom(t *testing.T, s *endpoint, n int) (wait func()) {
	t.Helper()
	var running sync.WaitGroup
	running.Go(func() {
		for _, at := range r.moments(n, r.events) {
			for r.progress() < at && !t.Failed() {
				time.Sleep(5 * time.Millisecond)
			}
			s.close()
			time.Sleep(time.Duration(100+r.dice.roll(300)) * time.Millisecond)
			s.open(t)
		}
	})
	t.Cleanup(running.Wait)
	return running.Wait
}
