package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// Bounds on a client of a Server.
const (
	headerTimeout = 10 * time.Second
	bodyTimeout   = 5 * time.Minute
	idleTimeout   = 2 * time.Minute
	// leastConns: more connections than chains, but not so many that they alone
	// use up the memory.
	leastConns = 512
	// maxHeaderBytes has room for a slip beside an event's attributes. It is
	// also what a connection costs in memory.
	maxHeaderBytes = 32 << 10
)

// Paths beside those of package wire.
const (
	healthPath  = "/.sidestep/healthz"
	readyPath   = "/.sidestep/readyz"
	metricsPath = "/.sidestep/metrics"
)

// Server serves a Sidecar over HTTP/1.1.
type Server struct {
	s     *Sidecar
	fast  fasthttp.Server
	watch *watch
	// passer calls steps for requests without a slip.
	passer *http.Transport
	base   context.Context //nolint:containedctx // of all chains
	abort  context.CancelCauseFunc
	stop   chan struct{}

	complained atomic.Int64 // when a refusal was last logged, in Unix ns

	mu       sync.Mutex
	listener net.Listener // being served
	stopped  bool
	watching sync.WaitGroup
}

// NewServer makes a Server.
func NewServer(s *Sidecar) *Server {
	srv := &Server{s: s, watch: newWatch(s.KeepAlive, s.Idle), passer: newPasser(s), stop: make(chan struct{})}
	srv.base, srv.abort = context.WithCancelCause(context.Background())
	srv.fast = fasthttp.Server{
		Handler: srv.serve,
		// A body is read when there is a place and memory for it, and no sooner.
		StreamRequestBody:            true,
		MaxRequestBodySize:           1,
		DisablePreParseMultipartForm: true,
		ReadTimeout:                  headerTimeout,
		HeaderReceived: func(*fasthttp.RequestHeader) fasthttp.RequestConfig {
			return fasthttp.RequestConfig{ReadTimeout: bodyTimeout}
		},
		IdleTimeout:           idleTimeout,
		Concurrency:           max(leastConns, 2*s.MaxChains),
		ReadBufferSize:        maxHeaderBytes,
		NoDefaultServerHeader: true,
		NoDefaultContentType:  true,
		NoDefaultDate:         true,
		CloseOnShutdown:       true,
		SecureErrorLogMessage: true,
		Logger:                debugLog{s.Logger},
	}
	return srv
}

type debugLog struct{ *slog.Logger }

func (l debugLog) Printf(format string, args ...any) { l.Debug(fmt.Sprintf(format, args...)) }

// Serve takes connections until Shutdown, and then returns nil; at once if
// Shutdown came first. It closes l, and may be called once.
func (s *Server) Serve(l net.Listener) error {
	wrapped := &listener{Listener: l, watch: s.watch, base: s.base}
	defer wrapped.Close()
	s.mu.Lock()
	stopped := s.stopped
	s.listener = wrapped
	if !stopped {
		s.watching.Add(1)
		go func() {
			defer s.watching.Done()
			s.watch.run(s.stop)
		}()
	}
	s.mu.Unlock()
	if stopped {
		return nil
	}
	err := s.fast.Serve(wrapped)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	return err
}

// errStopping is why a chain ends that did not within the time for draining.
var errStopping = errors.New("the sidecar is being stopped")

// Shutdown first has no more chains begin and waits for those under way, which
// end before their next step; new ones are told to go elsewhere meanwhile. When ctx
// ends the steps that still run are cancelled, and that is the error. Then it closes
// all connections.
func (s *Server) Shutdown(ctx context.Context) error {
	s.s.Drain()
	err := s.drained(ctx)
	s.mu.Lock()
	first := !s.stopped
	s.stopped = true
	l := s.listener
	s.mu.Unlock()
	s.abort(errStopping)
	if l != nil {
		l.Close()
	}
	// What is left has been cancelled: it takes no time.
	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	err = errors.Join(err, s.fast.ShutdownWithContext(rest))
	if first {
		close(s.stop)
	}
	s.passer.CloseIdleConnections()
	s.watching.Wait()
	return err
}

func (s *Server) drained(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.s.Chains() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d chains did not end: %w", s.s.Chains(), context.Cause(ctx))
		}
	}
	return nil
}

func (s *Server) serve(ctx *fasthttp.RequestCtx) {
	path := string(ctx.URI().PathOriginal())
	if len(ctx.Request.Header.Peek(wire.SlipHeader)) == 0 {
		if st, rest := s.s.named(path); st != nil {
			s.pass(ctx, st, rest)
			return
		}
	}
	switch {
	case ctx.IsPost():
		s.serveChain(ctx)
	case !ctx.IsGet() && !ctx.IsHead():
		ctx.Response.Header.Set("Allow", "GET, HEAD, POST")
		say(ctx, http.StatusMethodNotAllowed, "want POST for a chain, or GET")
	case path == wire.HandshakePath:
		s.shakeHands(ctx)
	case path == healthPath:
		say(ctx, http.StatusOK, "ok")
	case path == readyPath && s.s.draining.Load():
		say(ctx, http.StatusServiceUnavailable, "stopping")
	case path == readyPath:
		if err := s.s.stepsAnswer(ctx); err != nil {
			say(ctx, http.StatusServiceUnavailable, err.Error())
			return
		}
		say(ctx, http.StatusOK, "ok")
	case path == metricsPath:
		say(ctx, http.StatusOK, s.s.metrics())
	default:
		say(ctx, http.StatusNotFound, "want POST for a chain, or GET of "+wire.HandshakePath+", "+healthPath+", "+
			readyPath+" or "+metricsPath)
	}
}

func say(ctx *fasthttp.RequestCtx, status int, text string) {
	ctx.SetStatusCode(status)
	ctx.SetContentType("text/plain; charset=utf-8")
	ctx.Response.Header.Set("X-Content-Type-Options", "nosniff")
	ctx.SetBodyString(text + "\n")
}

func (s *Server) shakeHands(ctx *fasthttp.RequestCtx) {
	if !s.s.trusting.Load() { // nobody could have anything run here
		say(ctx, http.StatusServiceUnavailable, "no key is trusted yet")
		return
	}
	body, err := json.Marshal(s.s.handshake())
	if err != nil {
		say(ctx, http.StatusInternalServerError, err.Error())
		return
	}
	ctx.SetContentType("application/json")
	ctx.Response.Header.SetBytesV(reportHeader, s.s.appendReport(nil, 0))
	ctx.SetBody(body)
}
