package standalone

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

// client fails where another would wait until all tests are timed out.
var client = &http.Client{Timeout: 2 * patience}

// site is where a whole process runs: files, a data folder, and steps that are
// HTTP servers.
type site struct {
	t    *testing.T
	dir  string // of the YAML files
	data string

	mu   sync.Mutex
	seen map[string][]string // ids of events, by step
	hold map[string]chan struct{}
	came chan string   // "step id", when a request begins
	over chan struct{} // closed when the steps are to end
	once sync.Once
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{
		t: t, dir: t.TempDir(), data: filepath.Join(t.TempDir(), "data"),
		seen: map[string][]string{}, hold: map[string]chan struct{}{}, came: make(chan string, 1024),
		over: make(chan struct{}),
	}
	return s
}

// step starts a server that answers with the event it gets; it keeps the ids.
func (s *site) step(name string) (url string) {
	s.t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		id := r.Header.Get("ce-id")
		s.mu.Lock()
		hold := s.hold[name]
		s.mu.Unlock()
		select {
		case s.came <- name + " " + id:
		case <-s.over:
		}
		if hold != nil {
			select {
			case <-hold:
			case <-r.Context().Done():
				return
			}
		}
		s.mu.Lock()
		s.seen[name] = append(s.seen[name], id)
		s.mu.Unlock()
		for _, h := range []string{"ce-id", "ce-source", "ce-type", "ce-specversion", "content-type"} {
			w.Header().Set(h, r.Header.Get(h))
		}
		_, _ = w.Write(body)
	}))
	s.t.Cleanup(func() {
		// Nobody reads what came any more: a request that waits for that would keep
		// the server, and with it a test that has failed, from ending.
		s.once.Do(func() { close(s.over) })
		server.Close()
	})
	return server.URL
}

// stall has a step hold its requests until the function returned is called.
func (s *site) stall(name string) (release func()) {
	c := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold[name] = c
	once := sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.hold, name)
		close(c)
	})
	s.t.Cleanup(once)
	return once
}

// got tells which ids a step has answered.
func (s *site) got(name string) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := map[string]int{}
	for _, id := range s.seen[name] {
		n[id]++
	}
	return n
}

func (s *site) wantDelivered(step string, ids ...string) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("events %v at step %s", ids, step), func() bool {
		got := s.got(step)
		for _, id := range ids {
			if got[id] == 0 {
				return false
			}
		}
		return true
	})
}

// waitFor a request to a step.
func (s *site) waitFor(want string) {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case got := <-s.came:
			if got == want {
				return
			}
		case <-timeout:
			s.t.Fatalf("no request %q came", want)
		}
	}
}

// write a file the way an editor does.
func (s *site) write(name, content string) {
	s.t.Helper()
	file := filepath.Join(s.dir, name)
	if err := os.WriteFile(file+".tmp", []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(file+".tmp", file); err != nil {
		s.t.Fatal(err)
	}
}

// sequenceYAML is a Sequence that calls the URLs in order.
func sequenceYAML(name, shortCircuit string, urls ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: flows.knative.dev/v1\nkind: Sequence\nmetadata: {name: %s}\nspec:\n"+
		"  channelTemplate:\n    apiVersion: messaging.sidestep.dev/v1alpha1\n    kind: SidestepChannel\n"+
		"    spec: {shortCircuit: %s}\n  steps:\n", name, shortCircuit)
	for _, u := range urls {
		fmt.Fprintf(&b, "    - uri: %s\n      delivery: {retry: 20, backoffPolicy: linear, backoffDelay: PT0.05S}\n", u)
	}
	return b.String()
}

// channelYAML is a channel that nobody subscribes to: a file must hold something.
const channelYAML = "apiVersion: messaging.sidestep.dev/v1alpha1\nkind: SidestepChannel\nmetadata: {name: other}\n"

// running is a process in this process.
type running struct {
	*site
	base, admin string
	stdout      *output
	logs        *logbook
	stop        context.CancelFunc
	done        chan error
	ended       bool
}

// start runs the site and waits until it serves.
func (s *site) start(edit ...func(*Config)) *running {
	s.t.Helper()
	r := s.begin(edit...)
	eventually(s.t, "the process to serve", func() bool {
		select {
		case err := <-r.done:
			s.t.Fatalf("it ended: %v\n%s", err, r.logs)
		default:
		}
		return r.stdout.String() != ""
	})
	return r
}

// begin runs the site.
func (s *site) begin(edit ...func(*Config)) *running {
	s.t.Helper()
	events, admin := brokertest.FreeAddress(s.t), brokertest.FreeAddress(s.t)
	ctx, stop := context.WithCancel(context.Background())
	r := &running{
		site: s, base: "http://" + events, admin: "http://" + admin,
		stdout: new(output), logs: new(logbook), stop: stop, done: make(chan error, 1),
	}
	c := Config{
		Paths: []string{s.dir}, Listen: events, Admin: admin, Data: s.data, Drain: patience,
		Stdout: r.stdout, Logger: slog.New(r.logs),
	}
	for _, e := range edit {
		e(&c)
	}
	go func() { r.done <- Run(ctx, c) }()
	s.t.Cleanup(func() {
		stop()
		if !r.ended {
			select {
			case <-r.done:
			case <-time.After(2 * patience):
				s.t.Error("it did not end")
			}
		}
		if s.t.Failed() {
			s.t.Logf("its log:\n%s", r.logs)
		}
	})
	return r
}

// end waits for the process to end and returns what Run did.
func (r *running) end() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		r.ended = true
		return err
	case <-time.After(2 * patience):
		r.t.Fatal("it did not end")
		return nil
	}
}

// post sends an event and returns the status.
func (r *running) post(path, id string) int {
	r.t.Helper()
	status, err := r.send(path, id)
	if err != nil {
		r.t.Fatal(err)
	}
	return status
}

// send is post that a failure does not end.
func (r *running) send(path, id string) (status int, err error) { return r.sendData(path, id, "data") }

func (r *running) sendData(path, id, data string) (status int, err error) {
	req, err := http.NewRequest(http.MethodPost, r.base+path, strings.NewReader(data))
	if err != nil {
		return 0, err
	}
	for name, value := range map[string]string{
		"ce-specversion": "1.0", "ce-id": id, "ce-source": "test", "ce-type": "t", "content-type": "text/plain",
	} {
		req.Header.Set(name, value)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	res.Body.Close()
	return res.StatusCode, nil
}

func (r *running) accept(path string, ids ...string) {
	r.t.Helper()
	for _, id := range ids {
		if got := r.post(path, id); got != http.StatusAccepted {
			r.t.Fatalf("event %s: status %d", id, got)
		}
	}
}

// get asks the admin server.
func (r *running) get(path string) (int, string) {
	r.t.Helper()
	res, err := client.Get(r.admin + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// metric is whether a line of /metrics is there.
func (r *running) metric(line string) bool {
	_, text := r.get("/metrics")
	return strings.Contains("\n"+text, "\n"+line+"\n")
}
