package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/internal/brokertest"
	"github.com/sidestep-dev/sidestep/internal/brokertest/kafkatest"
	"github.com/sidestep-dev/sidestep/internal/kafkabroker"
)

// outside is a broker that is not part of the dispatcher.
type outside struct {
	config  string // the data of config-sidestep that lead to it
	kill    func()
	restart func(testing.TB)
}

func startNATS(t testing.TB) outside {
	b := brokertest.Start(t)
	return outside{"  backend: nats\n  nats: \"url: nats://" + b.Address + "\"\n", b.Kill, b.Restart}
}

func startKafka(t testing.TB) outside {
	b := kafkatest.Start(t, kafkabroker.Options{})
	return outside{"  backend: kafka\n  kafka: |\n    brokers: [\"" + b.Address + "\"]\n", b.Kill, b.Again}
}

const embeddedConfig = "  backend: embedded\n"

func configYAML(data string) string {
	return "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-sidestep, namespace: knative-eventing}\ndata:\n" + data
}

// Whichever of the two dies, or both at once, no event that was accepted is lost.
func TestKillingTheDispatcherAndItsBrokerLosesNoAcceptedEvent(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) outside{"nats": startNATS, "kafka": startKafka} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachMode(t, func(t *testing.T, mode string) {
				const events, clients = 3_000, 16
				b := start(t)
				r := newTrial(t)
				r.begin(t, sequenceYAML(mode, patient, r.steps[:]...)+configYAML(b.config), "", scaled(events, 10*events), clients)
				kills := scaled(6, 30)
				for i, at := range r.moments(kills, r.events*9/10) {
					await(t, "events to be accepted", func() bool { return t.Failed() || int(r.count.Load()) >= at })
					r.strike(t, b, i)
				}
				awaitAll(t, r.sender, r.end)
				r.alive(t)
				t.Logf("%s on %s: %d kills, %d events, %d posts refused, %d without an answer, %d duplicates so far at the last step",
					mode, name, kills, r.events, r.refused.Load(), r.broken.Load(), r.end.duplicates())
			})
		})
	}
}

// strike kills the dispatcher, the broker, or both, and has them start again.
func (r *trial) strike(t *testing.T, b outside, i int) {
	t.Helper()
	broker, dispatcher := i%3 != 0, i%3 != 1
	if broker {
		b.kill()
		if !dispatcher { // some events are not accepted yet: they are refused from now on
			refused := r.refused.Load()
			await(t, "ingress to refuse an event", func() bool { return r.refused.Load() > refused })
		}
	}
	if dispatcher {
		r.kill()
	}
	accepted := r.count.Load()
	if broker {
		b.restart(t)
	}
	if dispatcher {
		r.start(t)
	}
	await(t, "ingress to accept again", func() bool { return t.Failed() || r.count.Load() > accepted })
}

// The dispatcher is killed while its logs move from one backend to another: the
// one that is started then goes on with that, and every event that was accepted
// comes, from whichever log it is in.
func TestKillingTheDispatcherWhileItsLogsMoveLosesNoAcceptedEvent(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long: it starts processes and kills them")
	}
	const clients = 16
	nats, kafka := startNATS(t), startKafka(t)
	way := []struct{ name, config string }{
		{"nats", nats.config},
		{"kafka", kafka.config},
		{"nats", nats.config},
		{"embedded", embeddedConfig},
		{"kafka", kafka.config},
		{"embedded", embeddedConfig},
	}
	r := newTrial(t)
	flow := sequenceYAML("Never", patient, r.steps[:]...)
	r.installation = install(t, flow+configYAML(embeddedConfig), "")
	url := r.start(t)
	events, kills, first := scaled(1_500, 10_000), 0, 0
	for round := range scaled(1, 6) {
		for i, to := range way {
			// These events are under way when the logs begin to move, and after.
			s := send(t, url, first, events, clients)
			first += events
			await(t, "events to be accepted", func() bool { return t.Failed() || s.count.Load() > int64(events/8) })
			r.configure(t, flow+configYAML(to.config))
			for range 1 + r.dice.roll(3) {
				time.Sleep(time.Duration(r.dice.roll(400)) * time.Millisecond)
				r.kill()
				kills++
				r.start(t)
			}
			awaitAll(t, s, r.end)
			await(t, fmt.Sprintf("round %d, change %d, to %s, to be over", round, i, to.name), func() bool { return r.home(t, to.name) })
			s.stop()
		}
	}
	r.alive(t)
	t.Logf("%d events, %d kills in %d changes of the backend, %d duplicates at the last step", first, kills, len(way)*scaled(1, 6), r.end.duplicates())
}

// configure writes the flow anew, as an editor does.
func (i *installation) configure(t testing.TB, yaml string) {
	t.Helper()
	next := i.flow + ".next"
	if err := os.WriteFile(next, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, i.flow); err != nil {
		t.Fatal(err)
	}
}

// home tells whether all logs are on a backend of that kind, and nowhere else.
func (i *installation) home(t testing.TB, backend string) bool {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(i.data, "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	var state struct {
		Places map[string]struct {
			Home, Next string
			Former     []string
		}
	}
	if err := json.Unmarshal(b, &state); err != nil {
		t.Fatal(err)
	}
	for _, p := range state.Places {
		if !strings.HasPrefix(p.Home, backend) || p.Next != "" || len(p.Former) > 0 {
			return false
		}
	}
	return len(state.Places) > 0
}
