package broker

import (
	"bytes"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	_ "github.com/twmb/franz-go/pkg/kgo" // kfake needs a later one than its go.mod says
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/internal/broker"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// A container that is started again takes over from the one before at once if the others
// know that it is the same.
func TestAContainerSaysToKafkaWhichPodItIsIn(t *testing.T) {
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	var said atomic.Bool
	kafka.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		kafka.KeepControl()
		for _, t := range r.(*kmsg.ProduceRequest).Topics {
			for _, p := range t.Partitions {
				if bytes.Contains(p.Records, []byte(`"instance":"dispatcher-1"`)) {
					said.Store(true)
				}
			}
		}
		return nil, nil, false
	})
	s := &Servers{Pod: "dispatcher-1"}
	b, err := s.Open(t.Context(), broker.Spec{
		Kind: manifest.BackendKafka, Kafka: manifest.Kafka{Brokers: kafka.ListenAddrs()},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(t.Context())
	if _, err := b.EnsureLog(t.Context(), backend.Log{Name: "n/c"}); err != nil {
		t.Fatal(err)
	}
	if err := b.EnsureGroup(t.Context(), "n/c", backend.Group{Name: "g"}); err != nil {
		t.Fatal(err)
	}
	sub, err := b.Subscribe(t.Context(), "n/c", "g", backend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), "n/c", &backend.Record{}); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.Receive(t.Context()); err != nil { // it takes part by now
		t.Fatal(err)
	}
	if !said.Load() {
		t.Error("nobody was told the name of the pod")
	}
}
