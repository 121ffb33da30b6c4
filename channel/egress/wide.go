package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// wide is a connection that takes a body as it is at hand, or else in larger parts than
// net/http's: 32 KiB a call is much of what a large payload costs.
type wide struct{ *net.TCPConn }

// widthSize is the part of a body that is not at hand.
const widthSize = 128 << 10

var widths = sync.Pool{New: func() any { return new([widthSize]byte) }}

// dialWide dials for net/http.
func (c *Client) dialWide(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := c.dialer.DialContext(ctx, network, addr)
	if tcp, ok := conn.(*net.TCPConn); ok {
		return wide{tcp}, err
	}
	return conn, err
}

// ReadFrom implements io.ReaderFrom, which net/http uses where there is no TLS.
func (w wide) ReadFrom(r io.Reader) (n int64, err error) {
	if l, ok := r.(*io.LimitedReader); ok { // net/http's, of the announced length
		if from, ok := l.R.(event.Chunked); ok {
			return w.pass(from, &l.N)
		}
	}
	buf, _ := widths.Get().(*[widthSize]byte)
	defer widths.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{w.TCPConn}, struct{ io.Reader }{r}, buf[:])
}

// pass writes no more than left of what is at hand.
func (w wide) pass(from event.Chunked, left *int64) (n int64, err error) {
	for *left > 0 {
		p, err := from.Next(int(min(*left, 1<<30)))
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		k, err := w.Write(p)
		n, *left = n+int64(k), *left-int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
