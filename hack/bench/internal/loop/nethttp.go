package loop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/workload"
)

// NetHTTP serves the net/http loop on l until ctx ends; the steps are at base.
func NetHTTP(ctx context.Context, l net.Listener, base string) error {
	steps, err := workload.StepTargets(base)
	if err != nil {
		return err
	}
	client := workload.NewClient()
	return serve(ctx, l, func(w http.ResponseWriter, r *http.Request) {
		e, err := workload.Read(r.Header, r.Body, r.ContentLength)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		go func() {
			if err := forward(client, steps, e); err != nil {
				slog.Error("an event is lost", "err", err)
			}
		}()
	})
}

func forward(client *http.Client, steps []workload.Target, e workload.Event) error {
	for _, step := range steps {
		answer, err := workload.Post(client, step, e)
		if err != nil {
			return err
		}
		e = answer
	}
	return nil
}

// Accept serves on l until ctx ends, answering 202 to every request it has
// read completely.
func Accept(ctx context.Context, l net.Listener) error {
	return serve(ctx, l, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})
}

func serve(ctx context.Context, l net.Listener, h http.HandlerFunc) error {
	s := &http.Server{Handler: h}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the net/http loop: %w", err)
	}
	return nil
}
