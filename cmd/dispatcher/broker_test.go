package main

import (
	"testing"

	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

// TestKillingTheBrokerLosesNoAcceptedEvent: while the broker is dead ingress
// answers 503 with Retry-After; the dispatcher lives on.
func TestKillingTheBrokerLosesNoAcceptedEvent(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode string) {
		const events, clients = 3_000, 16
		b := brokertest.Start(t)
		r := newTrial(t)
		yaml := sequenceYAML(mode, patient, r.steps[:]...) + `---
apiVersion: v1
kind: ConfigMap
metadata: {name: config-sidestep, namespace: knative-eventing}
data:
  backend: nats
  nats: "url: nats://` + b.Address + `"
`
		r.begin(t, yaml, "", scaled(events, 10*events), clients)
		kills := scaled(5, 30)
		for _, at := range r.moments(kills, r.events*9/10) {
			await(t, "events to be accepted", func() bool { return t.Failed() || int(r.count.Load()) >= at })
			b.Kill()
			// Some events are not accepted yet: they are refused from now on.
			refused := r.refused.Load()
			await(t, "ingress to refuse an event", func() bool { return r.refused.Load() > refused })
			accepted := r.count.Load()
			b.Restart(t)
			await(t, "ingress to accept again", func() bool { return r.count.Load() > accepted })
		}
		awaitAll(t, r.sender, r.end)
		r.alive(t)
		t.Logf("%s: %d kills of the broker, %d events, %d posts refused, %d duplicates so far at the last step",
			mode, kills, r.events, r.refused.Load(), r.end.duplicates())
		if n := r.broken.Load(); n > 0 {
			t.Errorf("%d posts got no answer, although the dispatcher lived", n)
		}
	})
}
