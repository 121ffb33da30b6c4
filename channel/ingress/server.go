package ingress

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
	"unsafe"

	"github.com/valyala/fasthttp"
)

// Bounds on a client of a Server.
const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
	writeTimeout   = time.Minute
)

// Server serves a Handler over HTTP/1.1 without TLS, at about half of what it
// costs net/http. A Handler is an http.Handler, too, for what this cannot do.
type Server struct {
	fast    fasthttp.Server
	handler *Handler
	logger  *slog.Logger
	links   *links // nil unless there are any
	// lingering are connections that no request is expected on any more.
	lingering lingering

	mu       sync.Mutex
	listener net.Listener // being served
	stopped  bool
}

// NewServer makes a Server. logger takes what clients do wrong, at level debug;
// nil: nothing is logged.
func NewServer(h *Handler, logger *slog.Logger) *Server {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{handler: h, logger: logger}
	s.fast = fasthttp.Server{
		Handler:       s.serve,
		ExpectHandler: h.expect,
		// A body is read when there is memory for it, and no sooner: beyond
		// this size it is left to the Handler.
		StreamRequestBody:            true,
		MaxRequestBodySize:           1,
		DisablePreParseMultipartForm: true,
		ReadTimeout:                  headerTimeout,
		HeaderReceived: func(*fasthttp.RequestHeader) fasthttp.RequestConfig {
			return fasthttp.RequestConfig{ReadTimeout: cmp.Or(h.BodyIdle, DefaultBodyIdle)}
		},
		WriteTimeout:          writeTimeout,
		IdleTimeout:           idleTimeout,
		ReadBufferSize:        maxHeaderBytes,
		NoDefaultServerHeader: true,
		NoDefaultContentType:  true,
		CloseOnShutdown:       true,
		SecureErrorLogMessage: true,
		Logger:                debugLog{logger},
		// They are net/http's to close, see HandleLinks.
		KeepHijackedConns: true,
	}
	return s
}

func (s *Server) serve(ctx *fasthttp.RequestCtx) {
	if s.links.take(ctx) {
		return
	}
	if s.handler.serveFast(ctx) {
		s.lingering.take(ctx)
	}
}

// Serve takes connections until Shutdown, and then returns nil; at once if
// Shutdown came first. It closes l.
func (s *Server) Serve(l net.Listener) error {
	l = &onceListener{Listener: l}
	defer l.Close()
	s.mu.Lock()
	stopped := s.stopped
	s.listener = l
	s.mu.Unlock()
	if stopped {
		return nil
	}
	if s.links != nil {
		s.links.run()
	}
	err := s.fast.Serve(l)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	return err
}

// Shutdown takes no more connections, and returns when all requests were
// answered or ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	l := s.listener
	s.mu.Unlock()
	if l != nil {
		// fasthttp does not know of it yet if Serve has just begun, and would
		// serve it for ever.
		l.Close()
	}
	err := s.fast.ShutdownWithContext(ctx)
	if s.links != nil {
		err = errors.Join(err, s.links.shutdown(ctx))
	}
	return errors.Join(err, s.lingering.wait(ctx))
}

// onceListener may be closed again.
type onceListener struct {
	net.Listener
	once sync.Once
	err  error
}

func (l *onceListener) Close() error {
	l.once.Do(func() { l.err = l.Listener.Close() })
	return l.err
}

type debugLog struct{ *slog.Logger }

func (l debugLog) Printf(format string, args ...any) { l.Debug(fmt.Sprintf(format, args...)) }

// serveFast tells whether the client may still be sending.
func (h *Handler) serveFast(ctx *fasthttp.RequestCtx) (sending bool) {
	a := h.handle((*fastRequest)(ctx))
	ctx.SetStatusCode(a.status)
	for name, value := range a.fields {
		ctx.Response.Header.Set(name, value)
	}
	if a.text != "" {
		ctx.Response.Header.Set("Content-Type", "text/plain; charset=utf-8")
		ctx.Response.Header.Set("X-Content-Type-Options", "nosniff")
		ctx.SetBodyString(a.text + "\n")
	}
	return a.closing
}

// expect spares a client that asks (Expect: 100-continue) from sending a body
// that is too large.
func (h *Handler) expect(ctx *fasthttp.RequestCtx) int {
	x := exchange{Handler: h, request: (*fastRequest)(ctx)}
	_, limit := x.limits()
	if length := x.request.Length(); length > limit {
		ctx.SetBodyString(tooLarge(length, limit).text + "\n")
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusContinue
}

// fastRequest is a request of fasthttp's server. Its strings are parts of the
// server's buffers: they are gone when the request was answered.
type fastRequest fasthttp.RequestCtx

func (r *fastRequest) ctx() *fasthttp.RequestCtx { return (*fasthttp.RequestCtx)(r) }

func (r *fastRequest) Method() string { return view(r.ctx().Method()) }
func (r *fastRequest) Host() string   { return view(r.ctx().Host()) }
func (r *fastRequest) Length() int64  { return int64(r.ctx().Request.Header.ContentLength()) }

// Path does not use the server's own, in which slashes and dots are resolved:
// "/ns//name" is malformed, not another way to say "/ns/name".
func (r *fastRequest) Path() string {
	p := r.ctx().URI().PathOriginal()
	if bytes.IndexByte(p, '%') >= 0 {
		if s, err := url.PathUnescape(string(p)); err == nil {
			return s
		}
	}
	return view(p)
}

func (r *fastRequest) Fields(yield func(string, string) bool) {
	for name, value := range r.ctx().Request.Header.All() {
		if !yield(view(name), view(value)) {
			return
		}
	}
}

// Body is what follows the header; a request without one has none.
func (r *fastRequest) Body() io.Reader {
	if s := r.ctx().RequestBodyStream(); s != nil {
		return s
	}
	return http.NoBody
}

// ReadUntil leaves the deadline of a body that is over to the next request's.
func (r *fastRequest) ReadUntil(t time.Time) {
	if !t.IsZero() {
		_ = r.ctx().Conn().SetReadDeadline(t)
	}
}

// Context never ends: this server does not watch whether a client has gone.
func (*fastRequest) Context() context.Context { return context.Background() }

func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
