package sidecar

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// How a connection is looked after.
const (
	// writeTimeout limits one write of an answer.
	writeTimeout = time.Minute
	// lingerFor and lingerBytes limit what is read of a body that was not taken.
	lingerFor   = 2 * time.Second
	lingerBytes = 64 << 20
	// tellTimeout limits the write of an informational response. It has a few
	// bytes: there is room for them unless nobody reads.
	tellTimeout = time.Second
)

// errGone is why a chain ends whose client has.
var errGone = errors.New("the client has gone")

// conn is a dispatcher's connection. fasthttp reads and writes it; while a
// chain runs, which is when fasthttp does neither, the watch does.
type conn struct {
	net.Conn
	raw   syscall.RawConn // nil: it cannot be watched
	watch *watch

	// ctx ends with the connection. It is one for all its requests: what the
	// steps' client has to know of a context it then learns once.
	ctx    context.Context //nolint:containedctx // it is the connection's
	cancel context.CancelCauseFunc

	// linger: the client may be sending still what nobody reads.
	linger atomic.Bool

	mu    sync.Mutex
	busy  bool      // a chain runs
	tell  bool      // the client understands informational responses
	began time.Time // when the chain did
	seen  time.Time // when the client last had a sign of life, or the chain began
}

// begin has the watch look after the connection until end.
func (c *conn) begin(tell bool) {
	c.mu.Lock()
	c.busy, c.tell, c.began = true, tell, time.Now()
	c.seen = c.began
	c.mu.Unlock()
	c.watch.wake()
}

// end: once it has returned the watch no longer touches the connection.
func (c *conn) end() {
	c.mu.Lock()
	c.busy = false
	c.mu.Unlock()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.watch.remove(c)
	c.cancel(errGone)
	if tcp, ok := c.Conn.(*net.TCPConn); ok && c.linger.Swap(false) {
		// To close it now would reset it, and the client might lose the
		// answer that tells why (RFC 9112, 9.6).
		if tcp.CloseWrite() == nil && tcp.SetReadDeadline(time.Now().Add(lingerFor)) == nil {
			_, _ = io.CopyN(io.Discard, tcp, lingerBytes)
		}
	}
	return c.Conn.Close()
}

// Write implements net.Conn: what limits an answer is that it gets on, not how
// long it is.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// look tells whether a chain runs. It cancels the chain if the client has gone,
// and shows the client that it runs still.
func (c *conn) look(now time.Time, tellAfter time.Duration) (busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.busy {
		return false
	}
	if now.Sub(c.began) < watchEvery {
		return true // most chains are over by the next look
	}
	if c.hungUp() {
		c.cancel(errGone)
		return true
	}
	if c.tell && now.Sub(c.seen) >= tellAfter {
		c.seen = now
		if !c.process() {
			c.cancel(errGone)
		}
	}
	return true
}

// hungUp looks whether there is an end in what is to be read next. A client that
// closes its side of the connection only counts as gone, as with net/http.
func (c *conn) hungUp() (gone bool) {
	if c.raw == nil {
		return false
	}
	var b [1]byte
	err := c.raw.Control(func(fd uintptr) {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case err == nil:
			gone = n == 0
		case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		default:
			gone = true
		}
	})
	return gone || err != nil
}

var processing = []byte("HTTP/1.1 102 Processing\r\n\r\n")

// process sends an informational response.
func (c *conn) process() bool {
	if c.Conn.SetWriteDeadline(time.Now().Add(tellTimeout)) != nil {
		return false
	}
	_, err := c.Conn.Write(processing)
	return err == nil
}

// listener makes conns.
type listener struct {
	net.Listener
	watch *watch
	base  context.Context //nolint:containedctx // the parent of those of its connections
	once  sync.Once
	err   error
}

func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, watch: l.watch}
	c.ctx, c.cancel = context.WithCancelCause(l.base)
	if s, ok := nc.(syscall.Conn); ok {
		c.raw, _ = s.SyscallConn()
	}
	l.watch.add(c)
	return c, nil
}

// Close may be called again.
func (l *listener) Close() error {
	l.once.Do(func() { l.err = l.Listener.Close() })
	return l.err
}
