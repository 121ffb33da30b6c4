package sidecar

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// BenchmarkChain is one exchange with a sidecar whose steps answer at once, all in
// one process: what a hop costs beside the step itself. With net/http's server,
// as an alternative that was not taken, the rest is the same code.
func BenchmarkChain(b *testing.B) {
	for _, steps := range []int{1, 5} {
		for _, server := range []string{"fasthttp", "nethttp"} {
			for _, clients := range []int{1, 16} {
				b.Run(fmt.Sprintf("steps=%d/%s/clients=%d", steps, server, clients), func(b *testing.B) {
					benchmarkChain(b, steps, clients, server == "nethttp")
				})
			}
		}
	}
}

// BenchmarkShed is an exchange in which a chain is turned away.
func BenchmarkShed(b *testing.B) {
	s, send := benchmarkSidecar(b, 1, false)
	for s.steps[0].try() {
	}
	defer func() {
		for len(s.steps[0].places) > 0 {
			s.steps[0].leave()
		}
	}()
	b.ReportAllocs()
	for b.Loop() {
		if res := send(); res.Status != http.StatusServiceUnavailable {
			b.Fatalf("%d, %v", res.Status, res.Err)
		}
	}
}

func benchmarkChain(b *testing.B, steps, clients int, netHTTP bool) {
	b.Helper()
	_, send := benchmarkSidecar(b, steps, netHTTP)
	work := func() error {
		res := send()
		if res.Err == nil && res.Reply == nil {
			return fmt.Errorf("no event came back")
		}
		return res.Err
	}
	b.ReportAllocs()
	if clients == 1 {
		for b.Loop() {
			if err := work(); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	b.SetParallelism(clients / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := work(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// benchmarkSidecar serves a chain of so many steps, and sends an event of 1 KiB to
// it as a dispatcher does.
func benchmarkSidecar(b *testing.B, steps int, netHTTP bool) (s *Sidecar, send func() egress.Result) {
	b.Helper()
	port := benchmarkStep(b)
	s, err := New(Config{Pod: podUID, Allow: []Port{{Number: port}}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	public, private := keyPair("dispatcher")
	if err := s.Trust([]ed25519.PublicKey{public}); err != nil {
		b.Fatal(err)
	}
	slip := &wire.Slip{Pod: podUID}
	for i := range steps {
		slip.Steps = append(slip.Steps, wire.Step{UID: fmt.Sprint("uid-", i), Port: port, Path: "/"})
	}
	header, err := wire.NewSigner(private).Sign(slip)
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	serveBenchmark(b, NewServer(s), l, netHTTP)
	client := egress.New(egress.Config{})
	b.Cleanup(client.Close)
	target := &egress.Target{URL: "http://" + l.Addr().String() + wire.ChainPath}
	e := &event.Event{
		SpecVersion: "1.0", ID: "1", Source: "/s", Type: "t", DataContentType: "text/plain", Data: make([]byte, 1<<10),
	}
	extra := []event.Attribute{{Name: wire.SlipHeader, Value: header}, {Name: wire.LimitsHeader, Value: "1;budget=1000000"}}
	return s, func() egress.Result {
		return client.Send(b.Context(), &egress.Request{Target: target, Event: e, Extra: extra}, egress.Binary, patience)
	}
}

// benchmarkStep answers each event with itself.
func benchmarkStep(b *testing.B) (port uint16) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	step := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		for _, name := range []string{"Ce-Specversion", "Ce-Id", "Ce-Source", "Ce-Type", "Content-Type"} {
			ctx.Response.Header.SetBytesV(name, ctx.Request.Header.Peek(name))
		}
		ctx.SetBody(ctx.PostBody())
	}}
	go func() { _ = step.Serve(l) }()
	b.Cleanup(func() { _ = step.Shutdown() })
	addr, _ := l.Addr().(*net.TCPAddr)
	return uint16(addr.Port)
}

func serveBenchmark(b *testing.B, srv *Server, l net.Listener, netHTTP bool) {
	b.Helper()
	done := make(chan error, 1)
	if !netHTTP {
		go func() { done <- srv.Serve(l) }()
		b.Cleanup(func() {
			if err := errors.Join(srv.Shutdown(context.Background()), <-done); err != nil {
				b.Error(err)
			}
		})
		return
	}
	hs := &http.Server{Handler: &netHTTPServer{srv}}
	go func() { done <- hs.Serve(l) }()
	b.Cleanup(func() {
		hs.Close()
		<-done
	})
}

// netHTTPServer serves small events that go well.
type netHTTPServer struct{ *Server }

func (n *netHTTPServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	slip, err := n.s.verifier.Verify(r.Header.Get(wire.SlipHeader))
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	limits, err := wire.ParseLimits(r.Header.Get(wire.LimitsHeader))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c := &chain{s: n.s, slip: slip, limits: limits, end: len(slip.calls), first: true}
	if !n.admit(c, r.ContentLength) {
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	defer c.close()
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		panic(http.ErrAbortHandler)
	}
	if c.event, err = event.FromHTTP(pairs(r.Header), body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := c.run(r.Context()); err != nil {
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	h.Set(wire.OutcomeHeader, string(c.outcome.Append(nil)))
	h.Set(reportHeader, string(n.s.appendReport(nil, 1)))
	data := wire.Message(h.Add, c.event)
	_, _ = w.Write(data)
}
