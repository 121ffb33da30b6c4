package main

import "testing"

// TestTerminatingTheDispatcherLosesAndRepeatsNothing: SIGTERM finishes what is
// in flight and settles it. What was not begun comes with the next start.
func TestTerminatingTheDispatcherLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode string) {
		const events, clients = 5_000, 16
		r := newTrial(t)
		r.begin(t, sequenceYAML(mode, patient, r.steps[:]...), "", scaled(events, 10*events), clients)
		rounds := scaled(10, 50)
		for _, at := range r.moments(rounds, 2*r.events*95/100) {
			await(t, "events to move on", func() bool { return t.Failed() || r.progress() >= at })
			if status := r.terminate(t); status != 0 {
				t.Fatalf("exit status %d after SIGTERM", status)
			}
			r.start(t)
		}
		awaitAll(t, r.sender, r.end)
		awaitQuiet(t, r.end)
		r.alive(t)
		t.Logf("%s: %d rounds, %d events, %.0f events/s accepted, %d posts refused and %d without an answer",
			mode, rounds, r.events, r.rate(), r.refused.Load(), r.broken.Load())
		if n := r.stderr.count("not all that was in flight could be finished"); n > 0 {
			t.Errorf("%d times not all was finished within --drain", n)
		}
		if n := r.end.duplicates(); n > 0 {
			t.Errorf("%d events came twice to the last step, although nothing was killed", n)
		}
	})
}
