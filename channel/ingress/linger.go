package ingress

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// A client that is refused in the middle of its body still sends. If the connection
// were closed with some of that unread, the system would answer it with a reset, and
// a reset takes the answer away from a client that has yet to read it (RFC 9112, 9.6).
//
//	answer --> close our half --> throw away what comes: to its end, or for lingerMost --> close
const (
	lingerMost  = 5 * time.Second
	lingerPause = time.Second // without a byte
)

// lingering are the connections that were answered and have yet to be closed.
type lingering struct{ conns sync.WaitGroup }

// take has ctx answered, and its connection closed, beside the server.
func (l *lingering) take(ctx *fasthttp.RequestCtx) {
	answer := new(fasthttp.Response)
	ctx.Response.CopyTo(answer)
	ctx.HijackSetNoResponse(true)
	l.conns.Add(1)
	ctx.Hijack(func(c net.Conn) {
		defer l.conns.Done()
		defer c.Close()
		_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
		w := bufio.NewWriter(c)
		if answer.Write(w) != nil || w.Flush() != nil {
			return
		}
		drain(c)
	})
}

func drain(c net.Conn) {
	if under, ok := c.(interface{ UnsafeConn() net.Conn }); ok {
		c = under.UnsafeConn() // what the server has read already is of no use
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	linger(c, func(t time.Time) { _ = c.SetReadDeadline(t) })
}

// linger throws away what comes.
func linger(from io.Reader, readUntil func(time.Time)) {
	var b [8 << 10]byte
	for end := time.Now().Add(lingerMost); time.Now().Before(end); {
		readUntil(time.Now().Add(lingerPause))
		if _, err := from.Read(b[:]); err != nil {
			return
		}
	}
}

func (l *lingering) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		l.conns.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("clients that were refused still send")
	}
}
