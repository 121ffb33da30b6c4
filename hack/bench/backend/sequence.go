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
	// goalDeliveries is what all steps together are to get in a second.
	goalDeliveries = 500
)

// sequence is a Sequence of five steps, Never, in a dispatcher on Kafka:
//
//	this process: post ---> [dispatcher] ---> steps, which answer with what they got
//	                           |  ^                    |
//	                       [Kafka: a topic with one    +--> came: at the last one
//	                        partition for each step]
//
// An event takes the place of one that has come to the end.
type sequence struct {
	dispatcher *process.Child
	server     *http.Server
	client     http.Client
	dir        string

	mu      sync.Mutex
	waiting map[string]chan time.Time // by event
}

// sequenceResult is one round's: record deliveries in a second, all steps
// together, and milliseconds from the post to the last step.
type sequenceResult struct{ deliveries, p50 float64 }

func startSequence(ctx context.Context, broker string) (s *sequence, err error) {
	s = &sequence{waiting: make(map[string]chan time.Time)}
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
		Accept: func(r process.Ready) bool { return r.Kind == "Sequence" },
	})
	return s, err
}

// sequenceYAML is the flow, and what has its channels on the broker.
func sequenceYAML(steps, broker string) string {
	var b strings.Builder
	b.WriteString(`apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: bench}
spec:
  channelTemplate:
    apiVersion: messaging.sidestep.dev/v1alpha1
    kind: SidestepChannel
    spec: {shortCircuit: Never}
  steps:
`)
	for i := range sequenceSteps {
		fmt.Fprintf(&b, "    - uri: %s/%d\n", steps, i+1)
	}
	fmt.Fprintf(&b, `---
apiVersion: v1
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

// measure has n events go through, so many at once.
func (s *sequence) measure(ctx context.Context, round, n, window int) (r sequenceResult, err error) {
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
				ms, failed := s.event(ctx, fmt.Sprintf("%d-%d", round, i), data)
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
	r.deliveries = float64(n*sequenceSteps) / time.Since(begun).Seconds()
	slices.Sort(took)
	r.p50 = stats.Quantile(took, 0.5)
	return r, nil
}

// event posts one and waits until the last step has it.
func (s *sequence) event(ctx context.Context, id string, data []byte) (ms float64, err error) {
	came := make(chan time.Time, 1)
	s.mu.Lock()
	s.waiting[id] = came
	s.mu.Unlock()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.dispatcher.URL, bytes.NewReader(data))
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

// rounds measures the Sequence, under load and one event at a time.
func (s *sequence) rounds(ctx context.Context, o options) (loaded, single []sequenceResult, err error) {
	for round := range o.rounds + 1 { // the first one warms up
		a, err := s.measure(ctx, 2*round, o.events, sequenceWindow)
		if err != nil {
			return nil, nil, err
		}
		b, err := s.measure(ctx, 2*round+1, max(o.events/20, 1), 1)
		if err != nil {
			return nil, nil, err
		}
		fmt.Fprintf(os.Stderr, "round %d: five steps, %d at once: %6.0f deliveries/s, p50 %.1f ms; one at a time: p50 %.1f ms\n",
			round, sequenceWindow, a.deliveries, a.p50, b.p50)
		if round > 0 {
			loaded, single = append(loaded, a), append(single, b)
		}
	}
	return loaded, single, nil
}

func sequenceTable(loaded, single []sequenceResult) string {
	of := func(all []sequenceResult, f func(sequenceResult) float64) stats.Summary {
		var values []float64
		for _, r := range all {
			values = append(values, f(r))
		}
		return stats.Summarize(values)
	}
	deliveries := of(loaded, func(r sequenceResult) float64 { return r.deliveries })
	var b strings.Builder
	fmt.Fprintf(&b, "\nA Sequence of %d steps, `Never`, with %d KiB of data in each event, in a dispatcher process on the same broker; each step's channel has one partition:\n\n",
		sequenceSteps, sequenceData>>10)
	b.WriteString("| | median (smallest–largest) | goal | reached |\n|---|---|---|---|\n")
	fmt.Fprintf(&b, "| record deliveries/s, all steps, %d events at once | %s | >= %d | %s |\n", sequenceWindow, deliveries.Format(0),
		goalDeliveries, map[bool]string{true: "yes", false: "no"}[deliveries.Median >= goalDeliveries])
	fmt.Fprintf(&b, "| the same, of one partition | %s |  |  |\n", of(loaded, func(r sequenceResult) float64 { return r.deliveries / sequenceSteps }).Format(0))
	fmt.Fprintf(&b, "| from ingress to the last step, %d at once, p50, ms | %s |  |  |\n", sequenceWindow, of(loaded, func(r sequenceResult) float64 { return r.p50 }).Format(1))
	fmt.Fprintf(&b, "| the same, one event at a time, p50, ms | %s |  |  |\n", of(single, func(r sequenceResult) float64 { return r.p50 }).Format(1))
	return b.String()
}
