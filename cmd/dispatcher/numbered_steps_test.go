package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

// endpoint is a step or a sink that can go away and come back on its port.
type endpoint struct {
	address string
	handler http.Handler

	mu      sync.Mutex
	running *http.Server // nil while it is away
}

func startEndpoint(t testing.TB, h http.Handler) *endpoint {
	t.Helper()
	s := &endpoint{address: brokertest.FreeAddress(t), handler: h}
	s.open(t)
	t.Cleanup(s.close)
	return s
}

func (s *endpoint) url() string { return "http://" + s.address + "/" }

func (s *endpoint) open(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		t.Error(err)
		return
	}
	running := &http.Server{Handler: s.handler, ReadHeaderTimeout: time.Minute}
	s.mu.Lock()
	s.running = running
	s.mu.Unlock()
	go func() { _ = running.Serve(l) }() // ends with Close
}

// close cuts all connections, as the death of the step would.
func (s *endpoint) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		s.running.Close()
		s.running = nil
	}
}

// call is a request as a step gets it.
type call struct {
	post
	header http.Header
	data   []byte
}

// receive reads a call; what is wrong with it is reported to t.
func receive(t testing.TB, w http.ResponseWriter, r *http.Request) (call, bool) {
	c := call{header: r.Header}
	var err error
	if c.data, err = io.ReadAll(r.Body); err != nil {
		return c, false // the dispatcher was killed meanwhile
	}
	event, err1 := strconv.Atoi(r.Header.Get("Ce-Id"))
	attempt, err2 := strconv.Atoi(r.Header.Get("Ce-Post"))
	c.post = post{event, attempt}
	if err1 != nil || err2 != nil || string(c.data) != c.post.data() {
		t.Errorf("an event was altered: header %v, data %.80q", r.Header, c.data)
		http.Error(w, "altered", http.StatusBadRequest)
		return c, false
	}
	return c, true
}

// answer replies with the event itself.
func (c call) answer(w http.ResponseWriter) {
	for name, values := range c.header {
		if strings.HasPrefix(name, "Ce-") || name == "Content-Type" {
			w.Header()[name] = values
		}
	}
	_, _ = io.Copy(w, bytes.NewReader(c.data)) // or the dispatcher was killed
}

// forward is a step that answers with the event.
func forward(t testing.TB, calls *pulse) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := receive(t, w, r); ok {
			calls.beat()
			c.answer(w)
		}
	})
}

// collect is a last step, or a dead letter sink: it enters events in a ledger.
func collect(t testing.TB, calls *pulse, l *ledger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := receive(t, w, r); ok {
			calls.beat()
			l.enter(c.post)
			w.WriteHeader(http.StatusNoContent)
		}
	})
}

// deadLetters is a sink: what it takes must say why it is there.
func deadLetters(t testing.TB, l *ledger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := receive(t, w, r)
		if !ok {
			return
		}
		code, dest := c.header.Get("Ce-Knativeerrorcode"), c.header.Get("Ce-Knativeerrordest")
		if code == "" || dest == "" {
			t.Errorf("dead letter %d has knativeerrorcode %q and knativeerrordest %q", c.event, code, dest)
		}
		l.enter(c.post)
		w.WriteHeader(http.StatusAccepted)
	})
}

// indigestible events are those that flaky never takes, one in fifty.
func indigestible(event int) bool { return event%50 == 49 }

// flaky is a step of which a fifth of the calls fails in one way or another,
// and a hundredth hangs until the dispatcher gives up.
func flaky(t testing.TB, calls *pulse, random *dice) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := receive(t, w, r)
		if !ok {
			return
		}
		calls.beat()
		switch n := random.roll(100); {
		case indigestible(c.event):
			http.Error(w, "not of use here", http.StatusBadRequest)
		case n < 7:
			http.Error(w, "a fault inside", http.StatusInternalServerError)
		case n < 14:
			http.Error(w, "too busy", http.StatusServiceUnavailable)
		case n < 20:
			reset(t, w)
		case n < 21:
			<-r.Context().Done()
		default:
			c.answer(w)
		}
	})
}

// reset cuts the connection of a request without an answer.
func reset(t testing.TB, w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // RST instead of FIN
	}
	conn.Close()
}

// dice are random numbers from a seed, for any goroutine.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

// newDice prints the seed: with SIDESTEP_SEED set to it, the same are rolled.
func newDice(t testing.TB) *dice {
	t.Helper()
	s := seed(t)
	t.Logf("seed %d", s)
	return &dice{r: rand.New(rand.NewPCG(s, 0))}
}

// roll returns one of 0 to n-1.
func (d *dice) roll(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}
