package bindings

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/url"
	"sync"
	"testing"
	"time"

	cenats "github.com/cloudevents/sdk-go/protocol/nats_jetstream/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	ceclient "github.com/cloudevents/sdk-go/v2/client"
	ceevent "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/protocol"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/natsbackend"
	"github.com/sidestep-dev/sidestep/channel/event"
)

const patience = 30 * time.Second

// broker is a log on a JetStream server, and what a foreign client needs to know
// of it.
type broker struct {
	*natsbackend.Backend
	url, log, subject, stream string
}

func newBroker(t *testing.T, ordered bool) *broker {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		t.Fatal("nats-server is not ready")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b := &broker{url: s.ClientURL(), log: "default/pics"}
	if b.Backend, err = natsbackend.Connect(ctx, natsbackend.Config{URL: b.url}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	i, err := b.EnsureLog(ctx, backend.Log{Name: b.log, Ordered: ordered})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.EnsureGroup(ctx, b.log, backend.Group{Name: "g"}); err != nil {
		t.Fatal(err)
	}
	b.subject = "sidestep.log." + string(i)
	nc, err := nats.Connect(b.url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if b.stream, err = js.StreamNameBySubject(b.subject); err != nil {
		t.Fatal(err)
	}
	return b
}

// events are legal, each in its own way. Their values are such that binary mode
// has nothing to encode, unless encoded says so.
func events(t *testing.T, encoded bool) map[string]ceevent.Event {
	t.Helper()
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	out := make(map[string]ceevent.Event)
	add := func(id string, change func(*ceevent.Event) error) {
		e := ceevent.New()
		e.SetID(id)
		e.SetSource("/bindings")
		e.SetType("dev.sidestep.test")
		if err := change(&e); err != nil {
			t.Fatal(err)
		}
		out[id] = e
	}
	add("least", func(*ceevent.Event) error { return nil })
	add("all", func(e *ceevent.Event) error {
		e.SetSubject("a/b.jpg")
		e.SetTime(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC))
		e.SetDataSchema("http://example.com/schema")
		e.SetExtension("partitionkey", "key-1")
		e.SetExtension("number", 7)
		e.SetExtension("truth", true)
		e.SetExtension("sequence", "00001")
		return e.SetData("application/json", map[string]int{"a": 1})
	})
	add("bytes", func(e *ceevent.Event) error { return e.SetData("application/octet-stream", all) })
	add("text", func(e *ceevent.Event) error { return e.SetData("text/plain; charset=utf-8", "žluťoučký 🐎") })
	add("noobject", func(e *ceevent.Event) error { return e.SetData("application/json", []byte(`"{"`)) })
	if encoded {
		add("odd", func(e *ceevent.Event) error {
			e.SetSubject("two words, € and \"quotes\" at 100 %")
			return nil
		})
	}
	return out
}

// ours is the same event as the engine has it.
func ours(e ceevent.Event) *event.Event {
	out := &event.Event{
		SpecVersion: e.SpecVersion(), ID: e.ID(), Source: e.Source(), Type: e.Type(),
		DataContentType: e.DataContentType(), Data: e.Data(),
	}
	add := func(name, value string) {
		if value != "" {
			out.Attributes = append(out.Attributes, event.Attribute{Name: name, Value: value})
		}
	}
	add("subject", e.Subject())
	add("dataschema", e.DataSchema())
	if !e.Time().IsZero() {
		add("time", e.Time().Format(time.RFC3339Nano))
	}
	for name, value := range e.Extensions() {
		add(name, fmt.Sprint(value))
	}
	return out
}

// attributes of an event, and its data, in a form that compares.
func attributes(e *event.Event) map[string]string {
	m := map[string]string{
		"specversion": e.SpecVersion, "id": e.ID, "source": e.Source, "type": e.Type,
		"datacontenttype": e.DataContentType, "data": string(e.Data),
	}
	for _, a := range e.Attributes {
		m[a.Name] = a.Value
	}
	return m
}

func TestTheSDKReadsWhatWeStore(t *testing.T) {
	t.Parallel()
	b := newBroker(t, false)
	want := events(t, true)
	for id, e := range want {
		r := event.ToRecord(ours(e), backend.Header{Name: "sidestep-tried", Value: "1;x"})
		r.Dedup = id
		if err := b.Publish(t.Context(), b.log, &r); err != nil {
			t.Fatalf("Publish %s: %v", id, err)
		}
	}
	consumer, err := cenats.NewConsumer(b.url, b.stream, b.subject, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ceclient.New(consumer, ceclient.WithPollGoroutines(1))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	left := maps.Clone(want)
	var mu sync.Mutex // the SDK calls from many goroutines
	err = client.StartReceiver(ctx, func(got ceevent.Event) {
		mu.Lock()
		defer mu.Unlock()
		e, ok := want[got.ID()]
		if !ok {
			t.Errorf("received %q", got.ID())
			return
		}
		if got.ID() == "odd" {
			// Percent-encoded, as the binding says. The SDK leaves the decoding
			// to others.
			subject, err := url.PathUnescape(got.Subject())
			if err != nil {
				t.Errorf("subject %q: %v", got.Subject(), err)
			}
			got.SetSubject(subject)
		}
		if diff := cmp.Diff(attributes(ours(e)), attributes(ours(got))); diff != "" {
			t.Errorf("%s is another event for the SDK (-sent +received):\n%s", e.ID(), diff)
		}
		if delete(left, e.ID()); len(left) == 0 {
			cancel()
		}
	})
	if err != nil {
		t.Errorf("receive: %v", err)
	}
	if len(left) > 0 {
		t.Errorf("not received: %v", left)
	}
}

func TestWhatTheSDKPublishesIsDelivered(t *testing.T) {
	t.Parallel()
	for mode, with := range map[string]func(context.Context) context.Context{
		"binary": binding.WithForceBinary, "structured": binding.WithForceStructured,
	} {
		for _, ordered := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, ordered %v", mode, ordered), func(t *testing.T) {
				t.Parallel()
				b := newBroker(t, ordered)
				sender, err := cenats.NewSender(b.url, b.stream, b.subject, nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer sender.Close(t.Context())
				client, err := ceclient.New(sender)
				if err != nil {
					t.Fatal(err)
				}
				want := events(t, false)
				for _, e := range want {
					if result := client.Send(with(t.Context()), e); !protocol.IsACK(result) {
						t.Fatalf("send %s: %v", e.ID(), result)
					}
				}
				receiveAll(t, b, want)
			})
		}
	}
}

func receiveAll(t *testing.T, b *broker, want map[string]ceevent.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sub, err := b.Subscribe(ctx, b.log, "g", backend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for range want {
		d, err := sub.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got, err := event.FromRecord(&d.Record)
		if err != nil {
			t.Fatalf("record %q: %v", d.Record, err)
		}
		e := ours(want[got.ID])
		if d.Key != e.Get("partitionkey") {
			t.Errorf("%s has key %q, want %q", got.ID, d.Key, e.Get("partitionkey"))
		}
		if diff := cmp.Diff(attributes(e), attributes(got)); diff != "" {
			t.Errorf("%s is another event for us (-sent +received):\n%s", got.ID, diff)
		}
		if !bytes.Equal(got.Data, e.Data) {
			t.Errorf("%s: data %q, want %q", got.ID, got.Data, e.Data)
		}
		if err := sub.Ack(d); err != nil {
			t.Fatal(err)
		}
	}
}
