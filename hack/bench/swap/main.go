package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/machine"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/section"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/stats"
	"github.com/sidestep-dev/sidestep/internal/kafkabroker"
)

const (
	sectionName = "bench-swap"
	perSecond   = 1000
	between     = 2 * time.Second // of traffic, before each change
	patience    = time.Minute
	pauseGoal   = 1000 // ms
)

func main() {
	rounds := flag.Int("rounds", 10, "how often each change is made")
	write := flag.String("write", "", "also write the report to this Markdown file, between its markers")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *rounds, *write); err != nil {
		fmt.Fprintln(os.Stderr, "swap:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int, write string) (err error) {
	dir, err := os.MkdirTemp("", "bench-swap-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{dir: dir, arrived: map[string]int{}, changes: map[string]*change{}}
	backends, stop, err := b.brokers(ctx)
	defer stop()
	if err != nil {
		return err
	}
	if err := b.start(ctx, backends[0]); err != nil {
		return err
	}
	defer b.dispatcher.Stop()
	traffic := b.traffic(ctx)
	for range rounds {
		for i := range backends {
			if err := b.change(ctx, backends[i], backends[(i+1)%len(backends)]); err != nil {
				return b.dispatcher.Explain(err)
			}
		}
	}
	accepted := traffic()
	text := b.report(accepted, rounds, machine.Describe(dir))
	fmt.Print(text)
	if write != "" {
		return section.Write(write, sectionName, text)
	}
	return nil
}

// target is a backend, and how config-sidestep names it.
type target struct{ name, data string }

type bench struct {
	dir        string
	dispatcher *process.Child
	client     http.Client

	mu      sync.Mutex
	arrived map[string]int // by event id, at the last step
	last    time.Time
	longest time.Duration // between two arrivals, since it was reset
	order   []string
	changes map[string]*change
}

type change struct{ pauses, took []float64 } // ms

// brokers starts what is not embedded.
func (b *bench) brokers(ctx context.Context) ([]target, func(), error) {
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: filepath.Join(b.dir, "nats"), NoLog: true, NoSigs: true,
	})
	if err != nil {
		return nil, func() {}, err
	}
	s.Start()
	stop := s.Shutdown
	if !s.ReadyForConnections(patience) {
		return nil, stop, errors.New("the NATS server does not start")
	}
	targets := []target{
		{"embedded", "  backend: embedded\n"},
		{"nats", "  backend: nats\n  nats: |\n    url: " + s.ClientURL() + "\n"},
	}
	if kafkabroker.Available() != nil {
		return targets, stop, nil
	}
	if err := os.Mkdir(filepath.Join(b.dir, "kafka"), 0o700); err != nil {
		return nil, stop, err
	}
	k, err := kafkabroker.Start(ctx, kafkabroker.Options{Dir: filepath.Join(b.dir, "kafka")})
	if err != nil {
		return nil, stop, err
	}
	targets = append(targets, target{"kafka", "  backend: kafka\n  kafka: |\n    brokers: [\"" + k.Address + "\"]\n"})
	return targets, func() { s.Shutdown(); k.Kill() }, nil
}

const flow = `apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: bench}
spec:
  channelTemplate:
    apiVersion: messaging.sidestep.dev/v1alpha1
    kind: SidestepChannel
    spec: {shortCircuit: Never}
  steps: [{uri: "%[1]s/1"}, {uri: "%[1]s/2"}]
`

func (b *bench) start(ctx context.Context, t target) error {
	if err := os.MkdirAll(b.path("files"), 0o700); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(l, b) }() //nolint:gosec // this process ends with the measurement
	if err := os.WriteFile(b.path("files", "flow.yaml"), fmt.Appendf(nil, flow, "http://"+l.Addr().String()), 0o600); err != nil {
		return err
	}
	if err := b.configure(t); err != nil {
		return err
	}
	if err := process.BuildDispatcher(ctx, b.path("dispatcher")); err != nil {
		return err
	}
	b.dispatcher, err = process.Start(ctx, process.Command{
		Name: "the dispatcher", Path: b.path("dispatcher"),
		Args: []string{
			"standalone", "-f", b.path("files"), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
			"--data", b.path("data"), "--output", "json",
		},
		Accept: func(r process.Ready) bool { return r.Kind == "Sequence" },
	})
	return err
}

func (b *bench) path(parts ...string) string {
	return filepath.Join(append([]string{b.dir}, parts...)...)
}

// configure writes config-sidestep in one step.
func (b *bench) configure(t target) error {
	file := b.path("files", "config.yaml")
	text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-sidestep}\ndata:\n" + t.data
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// ServeHTTP is both steps.
func (b *bench) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/2" {
		now := time.Now()
		b.mu.Lock()
		b.arrived[r.Header.Get("Ce-Id")]++
		if !b.last.IsZero() {
			b.longest = max(b.longest, now.Sub(b.last))
		}
		b.last = now
		b.mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
		return
	}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "Ce-") || name == "Content-Type" {
			w.Header()[name] = values
		}
	}
	_, _ = w.Write(make([]byte, 1024))
}

// traffic posts events at a steady rate until the returned function is called, which
// tells which were accepted.
func (b *bench) traffic(ctx context.Context) func() []string {
	ctx, cancel := context.WithCancel(ctx)
	b.client.Transport = &http.Transport{MaxIdleConnsPerHost: 256}
	var (
		posts    sync.WaitGroup
		mu       sync.Mutex
		accepted []string
		n        atomic.Int64
	)
	posts.Go(func() {
		tick := time.NewTicker(time.Second / perSecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			id := strconv.FormatInt(n.Add(1), 10)
			posts.Go(func() {
				if b.post(id) {
					mu.Lock()
					accepted = append(accepted, id)
					mu.Unlock()
				}
			})
		}
	})
	return func() []string {
		cancel()
		posts.Wait()
		return accepted
	}
}

func (b *bench) post(id string) bool {
	r, err := http.NewRequest(http.MethodPost, b.dispatcher.URL, strings.NewReader(strings.Repeat("x", 1024)))
	if err != nil {
		return false
	}
	for name, value := range map[string]string{
		"Ce-Id": id, "Ce-Source": "/bench", "Ce-Type": "t", "Ce-Specversion": "1.0", "Content-Type": "text/plain",
	} {
		r.Header.Set(name, value)
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusAccepted
}

// change edits the configuration and waits until all logs are on the new backend.
func (b *bench) change(ctx context.Context, from, to target) error {
	time.Sleep(between)
	b.mu.Lock()
	b.longest = 0
	b.mu.Unlock()
	start := time.Now()
	if err := b.configure(to); err != nil {
		return err
	}
	for !b.over(to.name) {
		if ctx.Err() != nil || time.Since(start) > patience {
			return fmt.Errorf("the change from %s to %s is not over after %v", from.name, to.name, patience)
		}
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(start)
	time.Sleep(200 * time.Millisecond) // what was late
	b.mu.Lock()
	defer b.mu.Unlock()
	name := from.name + " to " + to.name
	if b.changes[name] == nil {
		b.changes[name] = &change{}
		b.order = append(b.order, name)
	}
	c := b.changes[name]
	c.pauses, c.took = append(c.pauses, millis(b.longest)), append(c.took, millis(took))
	fmt.Fprintf(os.Stderr, "%-20s pause %4.0f ms, over after %4.0f ms\n", name, millis(b.longest), millis(took))
	return nil
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// over tells whether the state file has all logs at home on a backend.
func (b *bench) over(name string) bool {
	text, err := os.ReadFile(b.path("data", "state.json"))
	if err != nil {
		return false
	}
	var state struct {
		Places map[string]struct {
			Home, Next string
			Former     []string
		}
	}
	if json.Unmarshal(text, &state) != nil {
		return false
	}
	for _, p := range state.Places {
		if !strings.HasPrefix(p.Home, name) || p.Next != "" || len(p.Former) > 0 {
			return false
		}
	}
	return len(state.Places) > 0
}

func (b *bench) report(accepted []string, rounds int, on machine.Machine) string {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && b.lost(accepted) > 0; {
		time.Sleep(50 * time.Millisecond)
	}
	lost := b.lost(accepted)
	b.mu.Lock()
	defer b.mu.Unlock()
	twice := 0
	for _, n := range b.arrived {
		twice += n - 1
	}
	var out strings.Builder
	fmt.Fprintf(&out, "`make bench-swap` writes this section. Do not edit it.\n\n"+
		"A Sequence of two steps, `Never`, gets %d events a second of 1 KiB while `backend` in config-sidestep is changed. The pause is the longest time "+
		"without an arrival at the last step, from the edit until the last log has left its former backend.\n\n", perSecond)
	fmt.Fprintf(&out, "| change | longest pause, ms | goal | reached | over after, ms |\n|---|---:|---:|---:|---:|\n")
	for _, name := range b.order {
		c := b.changes[name]
		pause := stats.Summarize(c.pauses)
		fmt.Fprintf(&out, "| %s | %s | < %d | %s | %s |\n", name, pause.Format(0), pauseGoal,
			map[bool]string{true: "yes", false: "no"}[pause.Max < pauseGoal], stats.Summarize(c.took).Format(0))
	}
	fmt.Fprintf(&out, "\n- %d events were accepted; lost: %d; delivered to the last step more than once: %d.\n", len(accepted), lost, twice)
	fmt.Fprintf(&out, "- Measured on %s. Rounds: %d.\n", on, rounds)
	return out.String()
}

func (b *bench) lost(accepted []string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range accepted {
		if b.arrived[id] == 0 {
			n++
		}
	}
	return n
}
