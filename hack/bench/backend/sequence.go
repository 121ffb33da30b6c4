package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/stats"
)

// How the Sequence is measured.
const (
	sequenceSteps = 5
	sequenceData  = 64 << 10
	// sequenceWindow is how many events are under way at once.
	sequenceWindow = 32
	// goalDeliveries is what a partition's step is to get in a second.
	goalDeliveries = 500
)

// lengths of the Sequences: one step is one partition alone.
var lengths = [...]int{1, sequenceSteps}

// sequence is Sequences of one step and of five, Never, in a dispatcher on Kafka:
//
//	this process: post ---> [dispatcher] ---> steps, which answer with what they got
//	                           |  ^                    |
//	                       [Kafka: a topic with one    +--> came: at the last one
//	                        partition for each step]
//
// An event takes the place of one that has come to the end.
type sequence struct {
	dispatcher *process.Child
	urls       map[string]string // by the Sequence's name
	server     *http.Server
	client     http.Client
	dir        string

	mu      sync.Mutex
	waiting map[string]chan time.Time // by event
}

// sequenceResult is one run's: record deliveries in a second to each step, and
// milliseconds from the post to the last step.
type sequenceResult struct{ deliveries, p50 float64 }

func startSequence(ctx context.Context, broker string) (s *sequence, err error) {
	s = &sequence{urls: make(map[string]string), waiting: make(map[string]chan time.Time)}
	s.client.Transport = &http.Transport{MaxIdleConnsPerHost: sequenceWindow}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.dir, err = os.MkdirTemp("", "bench-sequence-"); err != nil {
		return s, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return s, err
	}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.server.Serve(l) }()
	file, binary := filepath.Join(s.dir, "flow.yaml"), filepath.Join(s.dir, "dispatcher")
	if err := os.WriteFile(file, []byte(sequenceYAML("http://"+l.Addr().String(), broker)), 0o600); err != nil {
		return s, err
	}
	if err := process.BuildDispatcher(ctx, binary); err != nil {
		return s, err
	}
	s.dispatcher, err = process.Start(ctx, process.Command{
		Name: "the dispatcher", Path: binary,
		Args: []string{
			"standalone", "-f", file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
			"--data", filepath.Join(s.dir, "data"), "--output", "json",
		},
		Accept: func(r process.Ready) bool {
			if r.Kind == "Sequence" {
				s.urls[r.Name] = r.URL
			}
			return len(s.urls) == len(lengths)
		},
	})
	return s, err
}

// sequenceName is that of the Sequence with so many steps.
func sequenceName(steps int) string { return fmt.Sprintf("steps-%d", steps) }

// sequenceYAML is the flows, and what has their channels on the broker.
func sequenceYAML(url, broker string) string {
	var b strings.Builder
	for _, steps := range lengths {
		fmt.Fprintf(&b, `apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: %s}
spec:
  channelTemplate:
    apiVersion: messaging.sidestep.dev/v1alpha1
    kind: SidestepChannel
    spec: {shortCircuit: Never}
  steps:
`, sequenceName(steps))
		for i := range steps {
			fmt.Fprintf(&b, "    - uri: %s/%d\n", url, i+1+sequenceSteps-steps)
		}
		b.WriteString("---\n")
	}
	fmt.Fprintf(&b, `apiVersion: v1
kind: ConfigMap
metadata: {name: config-sidestep}
data:
  backend: kafka
  kafka: |
    brokers: [%q]
`, broker)
	return b.String()
}

// ServeHTTP is all steps.
func (s *sequence) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil || len(data) != sequenceData {
		http.Error(w, "not the event that was posted", http.StatusBadRequest)
		return
	}
	if r.URL.Path == "/"+strconv.Itoa(sequenceSteps) {
		s.mu.Lock()
		if came := s.waiting[r.Header.Get("Ce-Id")]; came != nil {
			delete(s.waiting, r.Header.Get("Ce-Id"))
			came <- time.Now()
		}
		s.mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
		return
	}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "Ce-") || name == "Content-Type" {
			w.Header()[name] = values
		}
	}
	_, _ = w.Write(data)
}

// measure has n events go through so many steps, so many at once.
func (s *sequence) measure(ctx context.Context, run string, steps, n, window int) (r sequenceResult, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, errors.New("an event does not come to the end"))
	defer cancel()
	var (
		working sync.WaitGroup
		mu      sync.Mutex
		took    []float64
		next    = make(chan int)
	)
	data := bytes.Repeat([]byte("x"), sequenceData)
	begun := time.Now()
	for range window {
		working.Go(func() {
			for i := range next {
				ms, failed := s.event(ctx, s.urls[sequenceName(steps)], fmt.Sprintf("%s-%d", run, i), data)
				mu.Lock()
				if err = errors.Join(err, failed); failed == nil {
					took = append(took, ms)
				}
				mu.Unlock()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	working.Wait()
	if err != nil {
		return r, s.dispatcher.Explain(err)
	}
	r.deliveries = float64(n) / time.Since(begun).Seconds()
	slices.Sort(took)
	r.p50 = stats.Quantile(took, 0.5)
	return r, nil
}

// event posts one and waits until the last step has it.
func (s *sequence) event(ctx context.Context, url, id string, data []byte) (ms float64, err error) {
	came := make(chan time.Time, 1)
	s.mu.Lock()
	s.waiting[id] = came
	s.mu.Unlock()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return 0, err
	}
	for name, value := range map[string]string{
		"Ce-Id": id, "Ce-Source": "/bench", "Ce-Type": "t", "Ce-Specversion": "1.0", "Content-Type": "application/octet-stream",
	} {
		r.Header.Set(name, value)
	}
	begun := time.Now()
	answer, err := s.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusAccepted {
		return 0, fmt.Errorf("event %s: status %d", id, answer.StatusCode)
	}
	select {
	case at := <-came:
		return at.Sub(begun).Seconds() * 1000, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (s *sequence) close() error {
	if s.dispatcher != nil {
		s.dispatcher.Stop()
	}
	if s.server != nil {
		_ = s.server.Close()
	}
	s.client.CloseIdleConnections()
	return os.RemoveAll(s.dir)
}
