package sidecar

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// patience bounds every wait for something that must happen.
const patience = 20 * time.Second

// pod is a sidecar and the steps beside it, all on loopback.
type pod struct {
	t *testing.T
	*Sidecar
	server *Server
	url    string
	signer *wire.Signer
	slip   *wire.Slip // what is posted with
	client *http.Client
	served chan error
}

const (
	podUID    = "pod-1"
	namespace = "pics"
)

func keyPair(name string) (ed25519.PublicKey, ed25519.PrivateKey) {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	private := ed25519.NewKeyFromSeed(seed)
	public, _ := private.Public().(ed25519.PublicKey)
	return public, private
}

// newPod starts a sidecar for steps, with a slip for all of them in order. When the
// test ends, it must have given back all that it took.
func newPod(t *testing.T, configure func(*Config), steps ...*stepServer) *pod {
	t.Helper()
	c := Config{Pod: podUID, Namespace: namespace}
	slip := &wire.Slip{Pod: podUID, Namespace: namespace}
	for i, s := range steps {
		c.Allow = append(c.Allow, Port{Number: s.port})
		slip.Steps = append(slip.Steps, wire.Step{UID: fmt.Sprint("uid-", i), Port: s.port, Path: "/", Namespace: "flows", Timeout: patience})
	}
	if configure != nil {
		configure(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	public, private := keyPair("dispatcher")
	if err := s.Trust([]ed25519.PublicKey{public}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{
		t: t, Sidecar: s, server: NewServer(s), url: "http://" + l.Addr().String(), signer: wire.NewSigner(private), slip: slip,
		client: &http.Client{Transport: &http.Transport{}}, served: make(chan error, 1),
	}
	go func() { p.served <- p.server.Serve(l) }()
	t.Cleanup(p.stop)
	return p
}

func (p *pod) stop() {
	p.t.Helper()
	p.client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.server.Shutdown(ctx); err != nil {
		p.t.Errorf("shutdown: %v", err)
	}
	if err := <-p.served; err != nil {
		p.t.Errorf("serve: %v", err)
	}
	p.nothingLeft()
	p.Close()
}

// nothingLeft: what chains took must be given back.
func (p *pod) nothingLeft() {
	p.t.Helper()
	p.eventually("all is given back", func() bool { return p.chains.Load() == 0 && p.memory.Used() == 0 && p.spool.used.Load() == 0 })
	for _, s := range p.steps {
		if len(s.places) != 0 || s.waiting.Load() != 0 {
			p.t.Errorf("step %s: %d places are taken, %d wait", s.name, len(s.places), s.waiting.Load())
		}
	}
	if p.Claims != "" {
		for _, name := range p.claims() {
			if strings.HasPrefix(name, spoolPrefix) {
				p.t.Errorf("%s was left", name)
			}
		}
	}
}

// claims lists the folder for claims.
func (p *pod) claims() (names []string) {
	p.t.Helper()
	entries, err := os.ReadDir(p.Claims)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != lockName {
			names = append(names, e.Name())
		}
	}
	return names
}

func (p *pod) eventually(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Errorf("it does not come to be: %s", what)
			return
		}
	}
}

// stepServer is a step.
type stepServer struct {
	port  uint16
	calls atomic.Int64
}

// newStepServer starts a step. A handler of nil answers what it was sent, with its
// port at the end of the data.
func newStepServer(t *testing.T, h http.HandlerFunc) *stepServer {
	t.Helper()
	s := new(stepServer)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.calls.Add(1)
		if h == nil {
			s.extend(w, r)
			return
		}
		h(w, r)
	}))
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	n, _ := strconv.ParseUint(port, 10, 16)
	s.port = uint16(n)
	return s
}

func (s *stepServer) extend(w http.ResponseWriter, r *http.Request) {
	for k, v := range r.Header {
		if strings.HasPrefix(k, "Ce-") || k == "Content-Type" {
			w.Header()[k] = v
		}
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%s>%d", b, s.port)
}

// answerer answers an event with the data given.
func answerer(data string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asEvent(w)
		_, _ = io.WriteString(w, data)
	}
}

func asEvent(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Ce-Specversion", "1.0")
	h.Set("Ce-Id", "answer")
	h.Set("Ce-Source", "/step")
	h.Set("Ce-Type", "t")
	h.Set("Content-Type", "text/plain")
}

// answer is what came of a post.
type answer struct {
	status int
	header http.Header
	body   string
	wire.Outcome
	event   *event.Event // with its data, if the outcome has one
	entered *event.Event
}

// post sends an event with the slip and limits given; header are further fields.
func (p *pod) post(data string, l wire.Limits, header ...string) *answer {
	p.t.Helper()
	a, err := p.try(context.Background(), data, l, header...)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

var noLimits = wire.Limits{SpillAfter: wire.NoLimit, Budget: wire.NoLimit}

func (p *pod) request(ctx context.Context, body io.Reader, l wire.Limits, header ...string) *http.Request {
	p.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+wire.ChainPath, body)
	if err != nil {
		p.t.Fatal(err)
	}
	slip, err := p.signer.Sign(p.slip)
	if err != nil {
		p.t.Fatal(err)
	}
	for i, kv := 0, append([]string{
		wire.SlipHeader, slip, wire.LimitsHeader, string(l.Append(nil)),
		"ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t", "content-type", "text/plain",
	}, header...); i < len(kv); i += 2 {
		req.Header.Set(kv[i], kv[i+1])
	}
	return req
}

func (p *pod) try(ctx context.Context, data string, l wire.Limits, header ...string) (*answer, error) {
	p.t.Helper()
	return p.do(p.request(ctx, strings.NewReader(data), l, header...))
}

func (p *pod) do(req *http.Request) (*answer, error) {
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	a := &answer{status: resp.StatusCode, header: resp.Header, body: string(body)}
	value := resp.Header.Get(wire.OutcomeHeader)
	if value == "" {
		return a, nil
	}
	if err := wire.ParseOutcome(value, &a.Outcome); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(resp.Header.Get(reportHeader), "TEXT application_utilization:") {
		return nil, fmt.Errorf("no load report: %q", resp.Header.Get(reportHeader))
	}
	if a.Entering > 0 {
		if a.entered, err = wire.ParseEvent(body[:a.Entering]); err != nil {
			return nil, err
		}
	}
	if a.Event {
		a.event, err = event.FromHTTP(pairs(resp.Header), bytes.Clone(body[a.Entering:]))
	}
	return a, err
}

func pairs(h http.Header) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for k, vs := range h {
			for _, v := range vs {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// want checks an outcome; event is the data of the event that it must have, "-" if
// it must have none.
func (a *answer) want(t *testing.T, kind wire.Kind, reason wire.Reason, at, ran int, data string) {
	t.Helper()
	if a.Kind != kind || a.Reason != reason || a.Step != at || len(a.Ran) != ran {
		t.Errorf("%d: %v %v step=%d ran=%d error=%q, want %v %v step=%d ran=%d\n%s",
			a.status, a.Kind, a.Reason, a.Step, len(a.Ran), a.Seen.Error, kind, reason, at, ran, a.body)
		return
	}
	switch {
	case a.event == nil && data != "-":
		t.Errorf("no event, want one with %.100q", data)
	case a.event != nil && string(a.event.Data) != data:
		t.Errorf("an event with %.100q (%d bytes), want %.100q (%d bytes)", a.event.Data, len(a.event.Data), data, len(data))
	}
}
