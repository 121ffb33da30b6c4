package main

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/kafkabackend"
)

// contender publishes and delivers. open makes a topic of its own; read begins to
// read it where the former reader stopped, or at its start, until stop;
// publish may be called from many goroutines.
type contender interface {
	name() string
	open(ctx context.Context) error
	read(ctx context.Context) error
	stop() error
	publish(ctx context.Context, data []byte) error
	deliver(ctx context.Context, each func(data []byte)) error // until ctx ends
	close() error
}

// headers are those of an event.
var headers = [][2]string{
	{"ce-specversion", "1.0"},
	{"ce-id", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
	{"ce-source", "/bench"},
	{"ce-type", "dev.sidestep.benchmark"},
	{"content-type", "application/octet-stream"},
}

// ours is the backend.
type ours struct {
	o   options
	b   *kafkabackend.Backend
	log string
	sub backend.Subscription
	h   []backend.Header
}

func (*ours) name() string { return "Sidestep's backend" }

func (c *ours) open(ctx context.Context) (err error) {
	if c.b, err = kafkabackend.Connect(ctx, kafkabackend.Config{Brokers: []string{c.o.broker}}); err != nil {
		return err
	}
	c.h = nil
	for _, h := range headers {
		c.h = append(c.h, backend.Header{Name: h[0], Value: h[1]})
	}
	c.log = "bench/" + rand.Text()
	if _, err = c.b.EnsureLog(ctx, backend.Log{Name: c.log}); err != nil {
		return err
	}
	return c.b.EnsureGroup(ctx, c.log, backend.Group{Name: "g"})
}

func (c *ours) stop() error { return c.sub.Close() }

func (c *ours) read(ctx context.Context) (err error) {
	c.sub, err = c.b.Subscribe(ctx, c.log, "g", backend.Options{Window: 4096, Buffer: 4 << 20})
	return err
}

func (c *ours) publish(ctx context.Context, data []byte) error {
	return c.b.Publish(ctx, c.log, &backend.Record{Header: c.h, Data: data})
}

func (c *ours) deliver(ctx context.Context, each func([]byte)) error {
	for {
		d, err := c.sub.Receive(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		each(d.Data)
		if err := c.sub.Ack(d); err != nil {
			return err
		}
	}
}

func (c *ours) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return errors.Join(c.b.DeleteLog(ctx, c.log), c.b.Close(ctx))
}

// franz is another client library's producer and consumer group.
type franz struct {
	o        options
	topic    string
	producer *kgo.Client
	consumer *kgo.Client
	h        []kgo.RecordHeader
}

// franzHeaders are headers as the Kafka binding names them.
func franzHeaders() (all []kgo.RecordHeader) {
	for _, h := range headers {
		all = append(all, kgo.RecordHeader{Key: strings.Replace(h[0], "ce-", "ce_", 1), Value: []byte(h[1])})
	}
	return all
}

// franzProducer has no linger: neither of us waits for more. All in-sync replicas, as
// ours.
func franzProducer(broker string, more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(more, kgo.SeedBrokers(broker), kgo.ProducerLinger(0),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(kgo.NoCompression()))...)
}

func (*franz) name() string { return "franz-go" }

func (c *franz) open(ctx context.Context) (err error) {
	c.topic = "bench-" + strings.ToLower(rand.Text())
	c.h = franzHeaders()
	if c.producer, err = franzProducer(c.o.broker, kgo.DefaultProduceTopic(c.topic)); err != nil {
		return err
	}
	admin := kadm.NewClient(c.producer)
	_, err = admin.CreateTopic(ctx, 1, 1, nil, c.topic)
	return err
}

func (c *franz) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	err := c.consumer.CommitUncommittedOffsets(ctx)
	c.consumer.Close()
	return err
}

func (c *franz) read(context.Context) (err error) {
	c.consumer, err = kgo.NewClient(kgo.SeedBrokers(c.o.broker), kgo.ConsumeTopics(c.topic), kgo.ConsumerGroup(c.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitInterval(100*time.Millisecond))
	return err
}

func (c *franz) publish(ctx context.Context, data []byte) error {
	return c.producer.ProduceSync(ctx, &kgo.Record{Headers: c.h, Value: data}).FirstErr()
}

func (c *franz) deliver(ctx context.Context, each func([]byte)) error {
	for {
		f := c.consumer.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := f.Err(); err != nil {
			return err
		}
		f.EachRecord(func(r *kgo.Record) { each(r.Value) })
	}
}

func (c *franz) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	_, err := kadm.NewClient(c.producer).DeleteTopics(ctx, c.topic)
	c.producer.Close()
	return err
}

// flood publishes n records by so many goroutines.
func flood(ctx context.Context, c contender, n, goroutines, size int) error {
	var left atomic.Int64
	left.Store(int64(n))
	var working sync.WaitGroup
	errs := make(chan error, goroutines)
	for range goroutines {
		working.Go(func() {
			data := make([]byte, size)
			for left.Add(-1) >= 0 {
				if err := c.publish(ctx, data); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	working.Wait()
	close(errs)
	return <-errs
}
