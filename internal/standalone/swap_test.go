package standalone

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend/swapbackend"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
	"github.com/sidestep-dev/sidestep/internal/brokertest/kafkatest"
)

// configDataYAML is config-sidestep with these data.
func configDataYAML(data string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-sidestep}\ndata:\n" + data
}

// traffic posts events to a flow until its stop is called, which returns the ids of those
// that were accepted.
func (r *running) traffic(path, prefix string) (stop func() []string) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var accepted []string
	var wg sync.WaitGroup
	var n atomic.Int64
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				id := fmt.Sprintf("%s-%d", prefix, n.Add(1))
				if status, err := r.send(path, id); err == nil && status == http.StatusAccepted {
					mu.Lock()
					accepted = append(accepted, id)
					mu.Unlock()
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	return sync.OnceValue(func() []string {
		cancel()
		wg.Wait()
		return accepted
	})
}

// drainCame lets the fixture's steps go on when nobody looks at what they announce.
func (s *site) drainCame() {
	go func() {
		for {
			select {
			case <-s.came:
			case <-s.over:
				return
			}
		}
	}()
}

// places are what the state file says of them.
func (r *running) places(t *testing.T) map[string]swapbackend.Place {
	t.Helper()
	s, err := openState(r.data)
	if err != nil {
		t.Fatal(err)
	}
	return s.Places
}

func (r *running) settled() bool {
	return r.metric("sidestep_logs_moving 0") && r.metric("sidestep_records_in_flight 0")
}

// Under load the backend is changed from any to any other, and back.
func TestNothingIsLostWhenTheBackendChanges(t *testing.T) {
	broker := brokertest.Start(t)
	backends := []struct{ name, data string }{
		{"nats", "  backend: nats\n  nats: |\n    url: nats://" + broker.Address + "\n"},
		{"embedded", "  backend: embedded\n"},
	}
	if k := kafkaAddress(t); k != "" {
		kafka := "  backend: kafka\n  kafka: |\n    brokers: [\"" + k + "\"]\n"
		backends = append(backends, struct{ name, data string }{"kafka", kafka},
			struct{ name, data string }{"nats", backends[0].data}, struct{ name, data string }{"kafka", kafka})
	}
	s := newSite(t)
	s.drainCame()
	one, two := s.step("one"), s.step("two")
	s.write("flow.yaml", sequenceYAML("flow", "Never", one, two))
	s.write("config.yaml", configDataYAML("  backend: embedded\n"))
	r := s.start()
	stop := r.traffic("/default/flow-kn-sequence-0", "e")
	defer stop()
	for i, b := range backends {
		time.Sleep(300 * time.Millisecond) // some traffic in between
		s.write("config.yaml", configDataYAML(b.data))
		eventually(t, fmt.Sprintf("change %d, to %s, to be over", i, b.name), func() bool {
			for _, p := range r.places(t) {
				if !strings.HasPrefix(p.Home, b.name) || p.Moving() {
					return false
				}
			}
			return true
		})
	}
	accepted := stop()
	if len(accepted) < 100 {
		t.Errorf("only %d events were accepted", len(accepted))
	}
	s.wantDelivered("two", accepted...)
	eventually(t, "everything to be settled", r.settled)
	for _, step := range []string{"one", "two"} {
		twice := 0
		for _, n := range s.got(step) {
			twice += n - 1
		}
		// Nothing died, and no connection broke.
		if twice > 0 {
			t.Errorf("step %s got %d events again", step, twice)
		}
	}
	r.stop()
	if err := r.end(); err != nil {
		t.Error(err)
	}
}

// kafkaAddress is that of a real broker, "" if there can be none here.
func kafkaAddress(t *testing.T) (address string) {
	t.Helper()
	t.Run("is there a Kafka broker", func(t *testing.T) { address = kafkatest.Shared(t).Address })
	return address
}

// A backend that cannot be reached changes nothing, and is used once it can be.
func TestABackendThatIsAwayLeavesAllWhereItIs(t *testing.T) {
	broker := brokertest.Start(t)
	broker.Kill()
	s := newSite(t)
	s.drainCame()
	s.write("flow.yaml", sequenceYAML("flow", "Never", s.step("one")))
	s.write("config.yaml", configDataYAML("  backend: embedded\n"))
	r := s.start()
	s.write("config.yaml", configDataYAML("  backend: nats\n  nats: |\n    url: nats://"+broker.Address+"\n"))
	eventually(t, "the reason to be told", func() bool { return r.metric("sidestep_backend_unreachable 1") })
	r.accept("/default/flow-kn-sequence-0", "meanwhile")
	s.wantDelivered("one", "meanwhile")
	broker.Restart(t)
	eventually(t, "it to be used after all", func() bool {
		p := r.places(t)["default/flow-kn-sequence-0"]
		return strings.HasPrefix(p.Home, "nats") && !p.Moving()
	})
	r.accept("/default/flow-kn-sequence-0", "afterwards")
	s.wantDelivered("one", "afterwards")
	if !r.metric("sidestep_backend_unreachable 0") {
		t.Error("it still counts as away")
	}
}

// A restart in the middle of a move goes on with it.
func TestAMoveGoesOnAfterARestart(t *testing.T) {
	broker := brokertest.Start(t)
	s := newSite(t)
	s.drainCame()
	release := s.stall("one")
	s.write("flow.yaml", sequenceYAML("flow", "Never", s.step("one")))
	s.write("config.yaml", configDataYAML("  backend: embedded\n"))
	r := s.start(func(c *Config) { c.Drain = time.Millisecond })
	r.accept("/default/flow-kn-sequence-0", "in-the-old-log")
	s.write("config.yaml", configDataYAML("  backend: nats\n  nats: |\n    url: nats://"+broker.Address+"\n"))
	eventually(t, "the log to have two places", func() bool {
		p := r.places(t)["default/flow-kn-sequence-0"]
		return strings.HasPrefix(p.Home, "nats") && len(p.Former) == 1
	})
	r.accept("/default/flow-kn-sequence-0", "in-the-new-log")
	r.stop()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if p := r.places(t)["default/flow-kn-sequence-0"]; !p.Moving() {
		t.Fatalf("the log is at %+v, want it in the middle of a move", p)
	}
	release()
	r = s.start()
	s.wantDelivered("one", "in-the-old-log", "in-the-new-log")
	eventually(t, "the former backend to be left", func() bool {
		p := r.places(t)["default/flow-kn-sequence-0"]
		return !p.Moving() && r.logs.find("closed a backend that is no longer used") != ""
	})
}

func TestANamespaceHasABackendOfItsOwn(t *testing.T) {
	broker := brokertest.Start(t)
	s := newSite(t)
	s.drainCame()
	url := s.step("one")
	s.write("flow.yaml", sequenceYAML("flow", "Never", url))
	s.write("team.yaml", strings.Replace(sequenceYAML("flow", "Never", url), "metadata: {name: flow}", "metadata: {name: flow, namespace: team}", 1))
	data := "  nats: |\n    url: nats://" + broker.Address + "\n"
	s.write("config.yaml", configDataYAML(data+"  namespaces: |\n    team: {backend: nats}\n"))
	r := s.start()
	r.accept("/default/flow-kn-sequence-0", "a")
	r.accept("/team/flow-kn-sequence-0", "b")
	s.wantDelivered("one", "a", "b")
	home := func(log, want string) bool {
		p := r.places(t)[log]
		return strings.HasPrefix(p.Home, want) && !p.Moving()
	}
	if !home("team/flow-kn-sequence-0", "nats") || !home("default/flow-kn-sequence-0", "embedded") {
		t.Errorf("the logs are at %v", r.places(t))
	}
	s.write("config.yaml", configDataYAML(data+"  namespaces: |\n    default: {backend: nats}\n"))
	eventually(t, "the two to change places", func() bool {
		return home("team/flow-kn-sequence-0", "embedded") && home("default/flow-kn-sequence-0", "nats")
	})
	r.accept("/default/flow-kn-sequence-0", "c")
	r.accept("/team/flow-kn-sequence-0", "d")
	s.wantDelivered("one", "c", "d")
}
