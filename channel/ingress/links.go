package ingress

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// HandleLinks has h serve the GET and HEAD requests for paths that begin with
// prefix. It must be called before Serve.
//
// Whoever asks for such a path has what comes on its connection served by
// net/http from then on, the same Handler's events included: links are about ranges, and
// streams that may have to be cut.
//
//	connection --> fasthttp: POST, POST, ... GET /claims/... --+
//	                                                           | with what was read of it
//	                                             net/http <----+ GET, GET, POST, ...
func (s *Server) HandleLinks(prefix string, h http.Handler) {
	s.links = &links{
		prefix: prefix,
		idle:   cmp.Or(s.handler.BodyIdle, DefaultBodyIdle),
		server: http.Server{
			Handler:           WithLinks(s.handler, prefix, h),
			ReadHeaderTimeout: headerTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
			ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
		},
		handed: make(chan net.Conn),
		closed: make(chan struct{}),
	}
}

// WithLinks is events with the GET and HEAD requests for paths that begin with prefix
// served by links, for a server of net/http.
func WithLinks(events http.Handler, prefix string, links http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asksForLink(r.Method, r.URL.Path, prefix) {
			links.ServeHTTP(w, r)
			return
		}
		events.ServeHTTP(w, r)
	})
}

func asksForLink(method, path, prefix string) bool {
	return (method == http.MethodGet || method == http.MethodHead) && strings.HasPrefix(path, prefix)
}

// chunked is fasthttp's length of a body that has none announced.
const chunked = -1

// links are the connections that were handed over to net/http.
type links struct {
	prefix string
	idle   time.Duration // that a reader may take for the next bytes
	server http.Server
	handed chan net.Conn
	closed chan struct{}
	once   sync.Once
	serve  sync.WaitGroup
}

// take tells whether a request was for a link: then its connection is no longer
// fasthttp's.
func (l *links) take(ctx *fasthttp.RequestCtx) bool {
	if l == nil || !asksForLink(view(ctx.Method()), (*fastRequest)(ctx).Path(), l.prefix) {
		return false
	}
	// One with a body could not be handed over whole: it is none for a link.
	if n := ctx.Request.Header.ContentLength(); n > 0 || n == chunked {
		return false
	}
	head := bytes.Clone(ctx.Request.Header.Header())
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(c net.Conn) {
		select {
		case l.handed <- &givenConn{Conn: c, head: head, idle: l.idle}:
		case <-l.closed:
			c.Close()
		}
	})
	return true
}

// run serves what is handed over until shutdown.
func (l *links) run() {
	l.serve.Go(func() { _ = l.server.Serve((*linkListener)(l)) })
}

func (l *links) shutdown(ctx context.Context) error {
	err := l.server.Shutdown(ctx)
	if err != nil {
		l.server.Close()
	}
	l.stop()
	l.serve.Wait()
	return err
}

func (l *links) stop() { l.once.Do(func() { close(l.closed) }) }

// linkListener accepts what is handed over.
type linkListener links

func (l *linkListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.handed:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *linkListener) Close() error {
	(*links)(l).stop()
	return nil
}

// Addr is not known: connections come from the Server's own listener.
func (*linkListener) Addr() net.Addr { return &net.TCPAddr{} }

// givenConn yields the request that was read before it was handed over once more.
// A payload of any size may take its time to be read; but a reader holds a block of
// it in memory, and must go on.
type givenConn struct {
	net.Conn
	head []byte
	idle time.Duration
}

func (c *givenConn) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *givenConn) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}
