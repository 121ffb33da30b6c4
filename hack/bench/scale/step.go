package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// step is the subscriber of all channels. It remembers which events came.
type step struct {
	url    string
	server *http.Server
	served sync.WaitGroup

	mu   sync.Mutex
	seen map[string]bool
	more chan struct{} // one place
}

func startStep() (*step, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the step: %w", err)
	}
	s := &step{url: "http://" + l.Addr().String() + "/", seen: make(map[string]bool), more: make(chan struct{}, 1)}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	s.served.Go(func() { _ = s.server.Serve(l) }) // until it is closed
	return s, nil
}

func (s *step) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	s.mu.Lock()
	s.seen[r.Header.Get("Ce-Id")] = true
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	w.WriteHeader(http.StatusAccepted)
}

func (s *step) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

// through posts an event to each URL, and returns how long it took until all were
// accepted, and until all had come.
func (s *step) through(ctx context.Context, urls []string, prefix string) (accepted, delivered time.Duration, err error) {
	before, began := s.count(), time.Now()
	if accepted, err = post(ctx, urls, prefix); err != nil {
		return 0, 0, err
	}
	if err := s.wait(ctx, before+len(urls)); err != nil {
		return 0, 0, err
	}
	return accepted, time.Since(began), nil
}

// deliveryLimit is how long events may take before they are given up.
const deliveryLimit = 5 * time.Minute

// wait returns when n different events have come.
func (s *step) wait(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, deliveryLimit, errors.New("in vain"))
	defer cancel()
	for s.count() < n {
		select {
		case <-s.more:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d events came to the step: %w", s.count(), n, context.Cause(ctx))
		}
	}
	return nil
}

func (s *step) close() {
	s.server.Close()
	s.served.Wait()
}
