package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// patience is for what must happen; what must not is not waited for.
const patience = 20 * time.Second

// transport is one of the two ways in which Client sends.
type transport struct {
	name   string
	secure bool
}

// transports: every test of what an answer means runs on both.
var transports = []transport{{"lean", false}, {"full", true}}

// onBoth runs a test on both transports.
func onBoth(t *testing.T, f func(t *testing.T, tr transport)) {
	t.Helper()
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			f(t, tr)
		})
	}
}

func newClient(t testing.TB, c Config) *Client {
	t.Helper()
	cl := New(c)
	t.Cleanup(cl.Close)
	return cl
}

// serve starts a server on loopback.
func (tr transport) serve(t testing.TB, h http.HandlerFunc) *Target {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	if tr.secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return targetOf(s)
}

func targetOf(s *httptest.Server) *Target {
	target := &Target{URL: s.URL + "/path?q=1"}
	if s.TLS != nil {
		target.CACerts = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	}
	return target
}

// certificate is httptest's own: it is good for example.com and loopback.
var certificate = sync.OnceValue(func() tls.Certificate {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return s.TLS.Certificates[0]
})

// raw starts a server that sees bytes. f owns connection number n, from 1 on,
// until it returns.
func (tr transport) raw(t testing.TB, f func(n int, c net.Conn, r *bufio.Reader)) *Target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := &Target{URL: "http://" + l.Addr().String()}
	if tr.secure {
		cert := certificate()
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}})
		target.URL = "https://" + l.Addr().String()
		target.CACerts = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
	)
	wg.Go(func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				f(n, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return target
}

// readRequest takes one whole request off the connection.
func readRequest(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

// answers serves every request on a raw connection with the same bytes.
func answers(text string) func(int, net.Conn, *bufio.Reader) {
	return func(_ int, c net.Conn, r *bufio.Reader) {
		for readRequest(r) {
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
	}
}

func sample() *event.Event {
	return &event.Event{
		SpecVersion: "1.0", ID: "1", Source: "/s", Type: "t", DataContentType: "application/json",
		Attributes: []event.Attribute{{Name: "foo", Value: "a b"}},
		Transport: []event.Attribute{
			{Name: "traceparent", Value: "p"}, {Name: "tracestate", Value: "a=1"}, {Name: "tracestate", Value: "b=2"},
		},
		Data: []byte(`{"a":1}`),
	}
}

func request(target *Target) *Request {
	return &Request{Target: target, Event: sample(), Namespace: "ns", PreferReply: true}
}

func send(t testing.TB, c *Client, target *Target) Result {
	t.Helper()
	return c.Send(context.Background(), request(target), Binary, patience)
}

// wantDelivered wants a success without a reply.
func wantDelivered(t testing.TB, r Result) {
	t.Helper()
	if r.Err != nil || r.Status < 200 || r.Status > 299 || r.Reply != nil {
		t.Fatalf("got status %d, reply %v, error %v, want a success without reply", r.Status, r.Reply, r.Err)
	}
}

// wantNoAnswer wants the error of an attempt that was not answered.
func wantNoAnswer(t testing.TB, r Result) {
	t.Helper()
	if r.Err == nil || r.Status != 0 || r.Reply != nil || !Retryable(r) {
		t.Fatalf("got status %d, reply %v, error %v, want an error without status that may be retried", r.Status, r.Reply, r.Err)
	}
}

// wait waits for something that must come.
func wait[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// counter counts different strings, such as remote addresses.
type counter struct {
	mu  sync.Mutex
	all map[string]struct{}
}

func (c *counter) see(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = make(map[string]struct{})
	}
	c.all[s] = struct{}{}
}

func (c *counter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all)
}
