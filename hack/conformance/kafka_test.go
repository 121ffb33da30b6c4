package conformance

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/protocol/kafka_sarama/v2"
	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/google/uuid"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/kafkabackend"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/internal/brokertest/kafkatest"
)

func TestMain(m *testing.M) { os.Exit(kafkatest.Run(m)) }

// kafkaLog is a log on a real broker, and the topic that it is to other programs.
func kafkaLog(t *testing.T) (b *kafkabackend.Backend, log, topic, address string) {
	t.Helper()
	address = kafkatest.Shared(t).Address
	ctx := timed(t)
	b, err := kafkabackend.Connect(ctx, kafkabackend.Config{Brokers: []string{address}, Prefix: "c-" + uuid.NewString()[:8]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	log = "test/" + uuid.NewString()
	if _, err := b.EnsureLog(ctx, backend.Log{Name: log}); err != nil {
		t.Fatal(err)
	}
	if err := b.EnsureGroup(ctx, log, backend.Group{Name: "g"}); err != nil {
		t.Fatal(err)
	}
	if topic, err = b.Topic(ctx, log); err != nil {
		t.Fatal(err)
	}
	return b, log, topic, address
}

func timed(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func saramaConfig() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.V3_6_0_0
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	return c
}

// sample events are awkward ones: what does not survive HTTP headers, or no data.
func sampleEvents(t *testing.T) []cloudevents.Event {
	t.Helper()
	var all []cloudevents.Event
	for i, source := range []string{"/plain", "/žluťoučký kůň", "/100%25 \"quoted\""} {
		e := cloudevents.NewEvent()
		e.SetID(uuid.NewString())
		e.SetSource(source)
		e.SetType("dev.sidestep.test")
		e.SetSubject("příliš 1%")
		e.SetTime(time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC))
		e.SetExtension("partitionkey", "key")
		e.SetExtension("extra", "a b")
		if i > 0 {
			if err := e.SetData("application/octet-stream", bytes.Repeat([]byte{0, 0xff, '"'}, 1000*i)); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, e)
	}
	return all
}

// checkEvent compares what we read of a record with the SDK's event.
func checkEvent(t *testing.T, got *event.Event, want *cloudevents.Event) {
	t.Helper()
	for name, pair := range map[string][2]string{
		"id": {got.ID, want.ID()}, "source": {got.Source, want.Source()}, "type": {got.Type, want.Type()},
		"specversion": {got.SpecVersion, want.SpecVersion()}, "datacontenttype": {got.DataContentType, want.DataContentType()},
		"subject": {got.Get("subject"), want.Subject()}, "time": {got.Get("time"), want.Time().Format(time.RFC3339Nano)},
		"extra":        {got.Get("extra"), want.Extensions()["extra"].(string)},
		"partitionkey": {got.Get("partitionkey"), want.Extensions()["partitionkey"].(string)},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %q, want %q", name, pair[0], pair[1])
		}
	}
	if !bytes.Equal(got.Data, want.Data()) {
		t.Errorf("%d bytes of data, want %d", len(got.Data), len(want.Data()))
	}
}

func TestEventsOfTheSDKsKafkaClientAreRead(t *testing.T) {
	t.Parallel()
	b, log, topic, address := kafkaLog(t)
	sender, err := kafka_sarama.NewSender([]string{address}, saramaConfig(), topic)
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close(context.Background())
	ctx := timed(t)
	sub, err := b.Subscribe(ctx, log, "g", backend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range sampleEvents(t) {
		keyed := kafka_sarama.WithMessageKey(ctx, sarama.StringEncoder("key"))
		if err := sender.Send(keyed, binding.ToMessage(&e)); err != nil {
			t.Fatal(err)
		}
		d, err := sub.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got, err := event.FromRecord(&d.Record)
		if err != nil {
			t.Fatal(err)
		}
		if d.Key != "key" {
			t.Errorf("key %q", d.Key)
		}
		checkEvent(t, got, &e)
		if err := sub.Ack(d); err != nil {
			t.Error(err)
		}
	}
}

func TestEventsAreReadByTheSDKsKafkaClient(t *testing.T) {
	t.Parallel()
	b, log, topic, address := kafkaLog(t)
	ctx := timed(t)
	consumer, err := kafka_sarama.NewConsumer([]string{address}, saramaConfig(), uuid.NewString(), topic)
	if err != nil {
		t.Fatal(err)
	}
	reading, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- consumer.OpenInbound(reading) }()
	defer func() {
		stop()
		<-ended
		_ = consumer.Close(context.Background())
	}()
	for _, want := range sampleEvents(t) {
		e := &event.Event{
			ID: want.ID(), Source: want.Source(), Type: want.Type(), SpecVersion: want.SpecVersion(),
			DataContentType: want.DataContentType(), Data: want.Data(),
			Attributes: []event.Attribute{
				{Name: "subject", Value: want.Subject()},
				{Name: "time", Value: want.Time().Format(time.RFC3339Nano)},
				{Name: "partitionkey", Value: "key"},
				{Name: "extra", Value: "a b"},
			},
		}
		r := event.ToRecord(e)
		if err := b.Publish(ctx, log, &r); err != nil {
			t.Fatal(err)
		}
		m, err := consumer.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got, err := binding.ToEvent(ctx, m)
		if err != nil {
			t.Fatalf("the SDK cannot read it: %v", err)
		}
		if err := m.Finish(nil); err != nil {
			t.Error(err)
		}
		checkEvent(t, e, got)
	}
}
