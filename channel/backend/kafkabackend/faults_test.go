package kafkabackend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
	"github.com/sidestep-dev/sidestep/internal/brokertest/kafkatest"
	"github.com/sidestep-dev/sidestep/internal/kafkabroker"
)

func TestATopicDeletedBehindOurBackIsNotFound(t *testing.T) {
	t.Parallel()
	address := sharedBroker(t).Address
	b := connectTo(t, Config{Brokers: []string{address}})
	log := makeLog(t, b, false, "g")
	publish(t, b, log, "1")
	sub := subscribe(t, b, log, "g", backend.Options{})
	receive(t, sub)
	before, err := b.EnsureLog(ctxOf(t), backend.Log{Name: log})
	must(t, err)
	r := kmsg.NewDeleteTopicsRequest()
	topic := topicNamed(t, b, log)
	r.TopicNames = []string{topic}
	named := kmsg.NewDeleteTopicsRequestTopic()
	named.Topic = &topic
	r.Topics = append(r.Topics, named)
	answer, err := r.RequestWith(ctxOf(t), client(t, address))
	must(t, err)
	must(t, kerr.ErrorForCode(answer.Topics[0].ErrorCode))
	_, err = sub.Receive(ctxOf(t))
	wantError(t, "Receive", err, backend.ErrNotFound)
	wantError(t, "Publish", b.Publish(ctxOf(t), log, &backend.Record{}), backend.ErrNotFound)
	_, err = b.Lag(ctxOf(t), log, "g")
	wantError(t, "Lag", err, backend.ErrNotFound)
	after, err := b.EnsureLog(ctxOf(t), backend.Log{Name: log})
	must(t, err)
	if after == before {
		t.Error("the log that was made in its place has the same incarnation")
	}
	publish(t, b, log, "2")
}

func TestPartitionsThatAreAddedAreReadFromTheirFirstRecord(t *testing.T) {
	t.Parallel()
	address := sharedBroker(t).Address
	b := connectTo(t, Config{Brokers: []string{address}, Refresh: 100 * time.Millisecond})
	log := makeLog(t, b, false, "g")
	sub := subscribe(t, b, log, "g", backend.Options{})
	publish(t, b, log, "1")
	receive(t, sub)
	topic := topicNamed(t, b, log)
	r := kmsg.NewCreatePartitionsRequest()
	more := kmsg.NewCreatePartitionsRequestTopic()
	more.Topic, more.Count = topic, 4
	r.Topics = append(r.Topics, more)
	answer, err := r.RequestWith(ctxOf(t), client(t, address))
	must(t, err)
	must(t, kerr.ErrorForCode(answer.Topics[0].ErrorCode))
	other := client(t, address, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond))
	eventually(t, "publish to a new partition", func() error {
		other.ForceMetadataRefresh()
		return other.ProduceSync(ctxOf(t), &kgo.Record{Topic: topic, Partition: 3, Value: []byte("new")}).FirstErr()
	})
	if d := receive(t, sub); string(d.Data) != "new" || d.Partition != 3 || d.Offset != 0 {
		t.Errorf("received %q, %d/%d", d.Data, d.Partition, d.Offset)
	} else {
		must(t, sub.Ack(d))
	}
}

// A sealed log refuses other clients, and processes that have not heard of it: the
// broker does.
func TestTheBrokerRefusesRecordsForASealedLog(t *testing.T) {
	t.Parallel()
	address := sharedBroker(t).Address
	b := connectTo(t, Config{Brokers: []string{address}})
	log := makeLog(t, b, false, "g")
	publish(t, b, log, "1")
	other := client(t, address, kgo.RecordRetries(1))
	topic := topicNamed(t, b, log)
	must(t, other.ProduceSync(ctxOf(t), &kgo.Record{Topic: topic, Value: []byte("2")}).FirstErr())
	must(t, b.Seal(ctxOf(t), log))
	if err := other.ProduceSync(ctxOf(t), &kgo.Record{Topic: topic, Value: []byte("3")}).FirstErr(); !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("another client's record was answered with %v", err)
	}
	sub := subscribe(t, b, log, "g", backend.Options{})
	for range 2 {
		must(t, sub.Ack(receive(t, sub)))
	}
	eventually(t, "lag", settledAll(t, b, log, "g"))
}

// One record is held while a thousand behind it come and go, in a window of four.
func TestARecordThatIsHeldDoesNotStopItsPartition(t *testing.T) {
	t.Parallel()
	b := connectTo(t, Config{Brokers: []string{sharedBroker(t).Address}})
	for _, ordered := range []bool{false, true} {
		log := makeLog(t, b, ordered, "g")
		const n = 1000
		var publishing sync.WaitGroup
		for i := range n {
			publishing.Go(func() {
				r := &backend.Record{Key: fmt.Sprint("key", i%50), Data: []byte(fmt.Sprint(i))}
				if err := b.Publish(ctxOf(t), log, r); err != nil {
					t.Error(err)
				}
			})
		}
		publishing.Wait()
		sub := subscribe(t, b, log, "g", backend.Options{Window: 4})
		held := receive(t, sub)
		for range n - 1 {
			must(t, sub.Ack(receive(t, sub)))
		}
		eventually(t, "lag", func() error {
			lag, err := b.Lag(ctxOf(t), log, "g")
			if err == nil && (lag.Records != 1 || !lag.Oldest.Equal(held.Stored)) {
				err = fmt.Errorf("lag %v, want the one of %v", lag, held.Stored)
			}
			return err
		})
		must(t, sub.Close())
		sub = subscribe(t, b, log, "g", backend.Options{})
		if d := receive(t, sub); string(d.Data) != string(held.Data) || !d.Redelivered {
			t.Errorf("received %q, redelivered %v; want %q", d.Data, d.Redelivered, held.Data)
		} else {
			must(t, sub.Ack(d))
		}
		eventually(t, "lag", settledAll(t, b, log, "g"))
	}
}

// dialCounter counts the connections that are open.
type dialCounter struct{ open, most atomic.Int64 }

type counted struct {
	net.Conn
	once sync.Once
	c    *dialCounter
}

func (c *counted) Close() error {
	c.once.Do(func() { c.c.open.Add(-1) })
	return c.Conn.Close()
}

func (d *dialCounter) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var n net.Dialer
	c, err := n.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if now := d.open.Add(1); now > d.most.Load() {
		d.most.Store(now)
	}
	return &counted{Conn: c, c: d}, nil
}

func TestConnectionsDoNotGrowWithTheLogs(t *testing.T) {
	t.Parallel()
	const logs = 100
	var d dialCounter
	b := connectTo(t, Config{Brokers: []string{sharedBroker(t).Address}, Dial: d.dial})
	var working sync.WaitGroup
	for range logs {
		working.Go(func() {
			log := "test/" + newID()
			ctx := ctxOf(t)
			if _, err := b.EnsureLog(ctx, backend.Log{Name: log}); err != nil {
				t.Error(err)
				return
			}
			if err := b.EnsureGroup(ctx, log, backend.Group{Name: "g"}); err != nil {
				t.Error(err)
				return
			}
			sub, err := b.Subscribe(ctx, log, "g", backend.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 5 {
				if err := b.Publish(ctx, log, &backend.Record{Data: []byte{byte(i)}}); err != nil {
					t.Error(err)
					return
				}
				d, err := sub.Receive(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				_ = sub.Ack(d)
			}
		})
	}
	working.Wait()
	limit := int64(2*adminLinks /* the seed, and the same as a broker */ + produceLanes + len(polls) + 2)
	if most := d.most.Load(); most > limit {
		t.Errorf("%d connections for %d logs, at most %d are wanted", most, logs, limit)
	}
}

// A process that is started again under the same name takes over at once from the
// one that was killed, and not when AckWait is over: it is an hour... of the broker's.
func TestTheNextLifeOfAnInstanceTakesOverAtOnce(t *testing.T) {
	t.Parallel()
	address := sharedBroker(t).Address
	p := brokertest.StartProxy(t, address)
	c := Config{Brokers: []string{address}, Prefix: newPrefix(), Instance: "one", AckWait: 5 * time.Minute}
	first := c
	first.Dial = through(p)
	b := connectTo(t, first)
	log := makeLog(t, b, false, "g")
	publish(t, b, log, "1")
	sub := subscribe(t, b, log, "g", backend.Options{})
	receive(t, sub)
	p.Cut()
	next := connectTo(t, c)
	sub = subscribe(t, next, log, "g", backend.Options{})
	if d := receive(t, sub); string(d.Data) != "1" || !d.Redelivered {
		t.Errorf("received %q, redelivered %v", d.Data, d.Redelivered)
	}
	p.Mend() // else to close the first takes as long as it may still hope
}

// Two processes share a group under load; one is cut off for good. Nothing is
// lost, and nothing that it had acked in time is lost either.
func TestAKilledProcessUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	address := sharedBroker(t).Address
	c := Config{Brokers: []string{address}, Prefix: newPrefix(), Partitions: 3}
	b := connectTo(t, c)
	p := brokertest.StartProxy(t, address)
	victim := c
	victim.Dial = through(p)
	dying := connectTo(t, victim)
	log := makeLog(t, b, false, "g")
	const n = 2000
	var mu sync.Mutex
	seen := make(map[string]int)
	all := make(chan struct{})
	work := func(ctx context.Context, s backend.Subscription) {
		for {
			d, err := s.Receive(ctx)
			if err != nil {
				return
			}
			mu.Lock()
			if seen[string(d.Data)]++; len(seen) == n && seen[string(d.Data)] == 1 {
				close(all)
			}
			mu.Unlock()
			_ = s.Ack(d)
		}
	}
	ctx, cancel := context.WithCancel(ctxOf(t))
	var working sync.WaitGroup
	defer working.Wait()
	defer cancel()
	for _, from := range []*Backend{b, dying} {
		s := subscribe(t, from, log, "g", backend.Options{Window: 32})
		working.Go(func() { work(ctx, s) })
	}
	var publishing sync.WaitGroup
	for w := range 8 {
		publishing.Go(func() {
			for i := range n / 8 {
				if err := b.Publish(ctx, log, &backend.Record{Data: []byte(fmt.Sprint(w, "-", i))}); err != nil {
					t.Error(err)
				}
				if w == 0 && i == n/16 {
					p.Cut()
				}
			}
		})
	}
	publishing.Wait()
	select {
	case <-all:
	case <-ctx.Done():
		t.Fatalf("%d of %d records arrived", len(seen), n)
	}
	eventually(t, "lag", settledAll(t, b, log, "g"))
}

func TestABrokerKilledUnderLoadLosesNothingItAccepted(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a broker of its own")
	}
	t.Parallel()
	broker := kafkatest.Start(t, kafkabroker.Options{})
	b := connectTo(t, Config{Brokers: []string{broker.Address}, Partitions: 2})
	log := makeLog(t, b, false, "g")
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	var mu sync.Mutex
	accepted, arrived := make(map[string]bool), make(map[string]bool)
	var publishing sync.WaitGroup
	stop := make(chan struct{})
	for w := range 16 {
		publishing.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprint(w, "-", i)
				switch err := b.Publish(ctx, log, &backend.Record{Data: []byte(id)}); {
				case err == nil:
					mu.Lock()
					accepted[id] = true
					mu.Unlock()
				case !errors.Is(err, backend.ErrUnavailable):
					t.Errorf("Publish: %v", err)
				default:
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	count := func(m map[string]bool) int {
		mu.Lock()
		defer mu.Unlock()
		return len(m)
	}
	sub := subscribe(t, b, log, "g", backend.Options{Window: 128, Buffer: 1 << 20})
	var receiving sync.WaitGroup
	receiving.Go(func() {
		for {
			d, err := sub.Receive(ctx)
			if err != nil {
				return
			}
			mu.Lock()
			arrived[string(d.Data)] = true
			mu.Unlock()
			_ = sub.Ack(d)
		}
	})
	for range 2 {
		more := count(accepted) + 500
		eventually(t, "publishing", func() error {
			if n := count(accepted); n < more {
				return fmt.Errorf("%d accepted, want %d", n, more)
			}
			return nil
		})
		broker.Restart(t)
	}
	more := count(accepted) + 500
	eventually(t, "publishing after the restarts", func() error {
		if n := count(accepted); n < more {
			return fmt.Errorf("%d accepted, want %d", n, more)
		}
		return nil
	})
	close(stop)
	publishing.Wait()
	eventually(t, "delivery", func() error {
		mu.Lock()
		defer mu.Unlock()
		for id := range accepted {
			if !arrived[id] {
				return fmt.Errorf("%s was accepted and has not arrived; %d accepted, %d arrived", id, len(accepted), len(arrived))
			}
		}
		return nil
	})
	eventually(t, "lag", settledAll(t, b, log, "g"))
	cancel()
	receiving.Wait()
}

// Without committed positions a group is where it was made, and not where the
// log ends now.
func TestForgottenPositionsDoNotSkipRecords(t *testing.T) {
	t.Parallel()
	address := sharedBroker(t).Address
	b := connectTo(t, Config{Brokers: []string{address}})
	log := makeLog(t, b, false)
	publish(t, b, log, "before")
	must(t, b.EnsureGroup(ctxOf(t), log, backend.Group{Name: "g"}))
	publish(t, b, log, "1", "2")
	_, g, err := b.catalog.findGroup(ctxOf(t), log, "g")
	must(t, err)
	b.deleteGroups(ctxOf(t), []string{b.groupOf(g)})
	publish(t, b, log, "3")
	sub := subscribe(t, b, log, "g", backend.Options{})
	for _, want := range []string{"1", "2", "3"} {
		if d := receive(t, sub); string(d.Data) != want {
			t.Errorf("received %q, want %q", d.Data, want)
		}
	}
}
