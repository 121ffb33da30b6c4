package store

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/workload"
)

const (
	streamName = "BENCH"
	// window is how many records of a step may be in delivery at once: more
	// than are ever in flight here.
	window = 256
)

// storeLoop stores every event before each of its steps.
type storeLoop struct {
	js     jetstream.JetStream
	client *http.Client
	steps  []workload.Target
}

// Loop serves the store-and-forward loop on l until ctx ends; the steps are at
// base. One stream, one durable consumer per step; a record is acknowledged
// when what the step answered is stored.
func Loop(ctx context.Context, l net.Listener, base, dir string, t Transport) error {
	js, closeAll, err := open(dir, t)
	if err != nil {
		return err
	}
	defer closeAll()
	steps, err := workload.StepTargets(base)
	if err != nil {
		return err
	}
	s := &storeLoop{js: js, client: workload.NewClient(), steps: steps}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name:      streamName,
		Subjects:  []string{"step.*"},
		Retention: jetstream.WorkQueuePolicy,
		Storage:   jetstream.FileStorage,
	})
	if err != nil {
		return fmt.Errorf("make the stream: %w", err)
	}
	for step := 1; step <= workload.Steps; step++ {
		consuming, err := s.consume(ctx, stream, step)
		if err != nil {
			return fmt.Errorf("consume step %d: %w", step, err)
		}
		defer consuming.Stop()
	}
	return serve(ctx, l, func(w http.ResponseWriter, r *http.Request) { accept(w, r, js, subject(1)) })
}

func subject(step int) string { return "step." + strconv.Itoa(step) }

func (s *storeLoop) consume(ctx context.Context, stream jetstream.Stream, step int) (jetstream.ConsumeContext, error) {
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       "step" + strconv.Itoa(step),
		FilterSubject: subject(step),
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       time.Minute,
		MaxAckPending: window,
	})
	if err != nil {
		return nil, err
	}
	// The window bounds the goroutines: what is not acknowledged counts.
	return consumer.Consume(func(m jetstream.Msg) {
		go func() {
			if err := s.deliver(ctx, m, step); err != nil {
				slog.Error("a delivery failed", "step", step, "err", err)
			}
		}()
	}, jetstream.PullMaxMessages(window))
}

func (s *storeLoop) deliver(ctx context.Context, m jetstream.Msg, step int) error {
	answer, err := workload.Post(s.client, s.steps[step-1], workload.Event{
		Header: http.Header(m.Headers()),
		Data:   m.Data(),
	})
	if err != nil {
		return err
	}
	if step < workload.Steps {
		if err := publish(ctx, s.js, subject(step+1), answer); err != nil {
			return err
		}
	}
	return m.Ack()
}

// publish stores an event: attributes as headers, data as payload.
func publish(ctx context.Context, js jetstream.JetStream, to string, e workload.Event) error {
	ack, err := js.PublishMsgAsync(&nats.Msg{Subject: to, Header: nats.Header(e.Header), Data: e.Data})
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	select {
	case <-ack.Ok():
		return nil
	case err := <-ack.Err():
		return fmt.Errorf("publish: %w", err)
	case <-ctx.Done():
		return fmt.Errorf("publish: %w", context.Cause(ctx))
	}
}
