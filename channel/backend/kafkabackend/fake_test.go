package kafkabackend

import (
	"crypto/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	_ "github.com/twmb/franz-go/pkg/kgo" // kfake needs a later one than its go.mod says
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/backendtest"
)

// startFake starts brokers in this process that end with the test.
func startFake(t testing.TB, brokers int) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(brokers))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestFake runs the suite on kfake: faster than a real broker, and a fake.
func TestFake(t *testing.T) {
	backendtest.Run(t, func(t testing.TB) backendtest.Harness {
		return newHarness(startFake(t, 1).ListenAddrs()[0])
	})
}

// TestThreeFakes has partitions, positions and our own topics with different brokers.
func TestThreeFakes(t *testing.T) {
	backendtest.Run(t, func(t testing.TB) backendtest.Harness {
		addresses := startFake(t, 3).ListenAddrs()
		var prefixes sync.Map
		return backendtest.Harness{
			Connect: func(t testing.TB) backend.Backend {
				prefix, _ := prefixes.LoadOrStore(t.Name(), "t-"+strings.ToLower(rand.Text()[:12]))
				return connect(t, Config{
					Brokers: addresses[:1], Prefix: prefix.(string), AckWait: testAckWait, Partitions: 4, Replicas: 3,
					Logger: traced(t),
				})
			},
			Facts: backendtest.Facts{AckWait: testAckWait, Patience: time.Minute},
		}
	})
}

// A partition gets another leader while it is written and read.
func TestPartitionsThatMoveLoseNothing(t *testing.T) {
	t.Parallel()
	const n = 400
	fakes := startFake(t, 3)
	b := connectTo(t, Config{Brokers: fakes.ListenAddrs(), Partitions: 2, Replicas: 3})
	log := makeLog(t, b, false, "g")
	topic := topicNamed(t, b, log)
	sub := subscribe(t, b, log, "g", backend.Options{})
	var moving sync.WaitGroup
	defer moving.Wait()
	stop := make(chan struct{})
	defer close(stop)
	moving.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if err := fakes.MoveTopicPartition(topic, int32(i%2), int32(i/2%3)); err != nil {
				t.Error(err)
			}
		}
	})
	seen := make(map[string]bool)
	for i := range n {
		id := string(rune('a'+i%26)) + strings.Repeat("x", i/26)
		publish(t, b, log, id)
		seen[id] = false
		d := receive(t, sub)
		seen[string(d.Data)] = true
		must(t, sub.Ack(d))
	}
	for id, came := range seen {
		if !came {
			t.Errorf("%.5s… did not arrive", id)
		}
	}
	eventually(t, "lag", settledAll(t, b, log, "g"))
}

// A topic is new to brokers that lag: it is gone when no broker knows it.
func TestATopicThatOneBrokerKnowsIsNotGone(t *testing.T) {
	t.Parallel()
	fakes := startFake(t, 3)
	b := connectTo(t, Config{Brokers: fakes.ListenAddrs(), Replicas: 3})
	topic := topicNamed(t, b, makeLog(t, b, false))
	b.cluster.mu.Lock()
	leader := b.cluster.leaders[topic][0]
	b.cluster.mu.Unlock()
	fakes.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
		asked := r.(*kmsg.MetadataRequest).Topics
		if fakes.CurrentNode() == leader || len(asked) != 1 || *asked[0].Topic != topic {
			return nil, nil, false
		}
		fakes.KeepControl()
		answer := r.ResponseKind().(*kmsg.MetadataResponse)
		unknown := kmsg.NewMetadataResponseTopic()
		unknown.Topic, unknown.ErrorCode = &topic, kerr.UnknownTopicOrPartition.Code
		answer.Topics = append(answer.Topics, unknown)
		return answer, nil, true
	})
	if b.cluster.nobodyKnows(ctxOf(t), topic) {
		t.Error("a topic that its leader knows counts as unknown")
	}
	if !b.cluster.nobodyKnows(ctxOf(t), "no-such-topic") {
		t.Error("a topic that does not exist counts as known")
	}
}
