package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/workload"
)

const ingressSubject = "ingress"

// makeUnread makes a stream that keeps what is published for a consumer that
// never fetches: what a channel is whose only step hangs.
func makeUnread(ctx context.Context, js jetstream.JetStream) error {
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name:      streamName,
		Subjects:  []string{ingressSubject},
		Retention: jetstream.InterestPolicy,
		Storage:   jetstream.FileStorage,
	})
	if err != nil {
		return fmt.Errorf("make the stream: %w", err)
	}
	_, err = stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:   "unread",
		AckPolicy: jetstream.AckExplicitPolicy,
	})
	if err != nil {
		return fmt.Errorf("make the consumer: %w", err)
	}
	return nil
}

// Ingress serves on l until ctx ends: every event is published, and answered
// 202 when it is stored. Nothing reads them.
func Ingress(ctx context.Context, l net.Listener, dir string, t Transport) error {
	js, closeAll, err := open(dir, t)
	if err != nil {
		return err
	}
	defer closeAll()
	if err := makeUnread(ctx, js); err != nil {
		return err
	}
	return serve(ctx, l, func(w http.ResponseWriter, r *http.Request) { accept(w, r, js, ingressSubject) })
}

// accept stores a request's event, then answers 202.
func accept(w http.ResponseWriter, r *http.Request, js jetstream.JetStream, subject string) {
	e, err := workload.Read(r.Header, r.Body, r.ContentLength)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := publish(r.Context(), js, subject, e); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func serve(ctx context.Context, l net.Listener, h http.HandlerFunc) error {
	s := &http.Server{Handler: h}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
