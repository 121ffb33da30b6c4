package egress

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// sendLean makes one attempt on a kept connection, with fasthttp's parser. The
// connections are our own because the attempts of a context must be abortable,
// and because the difference between "no answer" and "the other side had closed
// the idle connection" decides whether an event is dead-lettered. held is the event's
// payload, if it has one.
func (c *Client) sendLean(ctx context.Context, e *endpoint, r *Request, f Format, held []byte, timeout time.Duration) Result {
	in := c.buffers.inbox()
	defer c.buffers.inboxes.Put(in)
	x := exchange{Client: c, ctx: ctx, endpoint: e, request: r, format: f, held: held, in: in, deadline: time.Now().Add(timeout)}
	err := x.run(false)
	if errors.Is(err, errStale) {
		if err = x.run(true); errors.Is(err, ErrDial) {
			// Something was sent, after all.
			err = fmt.Errorf("%w, then: %v", errStale, err) //nolint:errorlint // not ErrDial
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return Result{Err: fmt.Errorf("post to %s: %w", r.Target.Display(), err)}
	}
	return x.result()
}

// exchange is one attempt on the lean path.
type exchange struct {
	*Client
	ctx      context.Context //nolint:containedctx // it is the attempt's
	endpoint *endpoint
	request  *Request
	format   Format
	held     []byte // see sendLean
	in       *inbox
	deadline time.Time
	body     []byte // of the answer; nobody else has it
	large    *taken // the body, if it is too large for memory
	fields   []string
	before   []byte
}

// errStale: a kept connection turned out to be closed before any byte of a
// response came. A server may close a connection that is idle at any moment,
// also just as we write to it (RFC 9112, 9.3.1). That says nothing about the
// event, so it is sent once more on a fresh connection, as the same attempt.
// Should the server have seen it, it sees it twice: at least once.
var errStale = errors.New("kept connection was closed")

func (x *exchange) run(fresh bool) error {
	p := x.endpoint.pool
	cn, err := p.take(x.ctx, x.deadline, fresh)
	if err != nil {
		return err
	}
	if !x.aborts.enter(x.ctx, cn) {
		p.drop(cn)
		return context.Cause(x.ctx)
	}
	reusable, err := x.roundTrip(cn)
	x.aborts.leave(cn)
	if reusable && x.ctx.Err() == nil {
		p.put(cn)
	} else {
		p.drop(cn)
	}
	return err
}

// roundTrip tells whether the connection can carry another exchange.
func (x *exchange) roundTrip(cn *conn) (reusable bool, err error) {
	if err := cn.SetDeadline(x.deadline); err != nil {
		return false, stale(cn, err)
	}
	unsent := x.write(cn)
	if unsent != nil && isTimeout(unsent) {
		return false, unsent
	}
	br := x.in.reader
	br.Reset(cn)
	defer br.Reset(nil)
	if err := x.listen(cn); err != nil {
		return false, err
	}
	if _, err := br.Peek(1); err != nil {
		return false, stale(cn, errors.Join(unsent, err))
	}
	// A server may answer and close before it has read everything, as with
	// 413 or 401: the answer counts, and not that it hung up on us.
	complete, err := x.receive(cn, br)
	if err != nil {
		return false, errors.Join(unsent, err)
	}
	return unsent == nil && complete && br.Buffered() == 0 && !x.in.header.ConnectionClose(), nil
}

// maxInformational bounds the 1xx responses before an answer. A step that is
// kept alive by them sends one every few seconds.
const maxInformational = 1024

// receive reads a response: whole if its body may be a reply, else the beginning
// of its body. It tells whether the response was read to its end.
func (x *exchange) receive(cn *conn, br *bufio.Reader) (complete bool, err error) {
	h := &x.in.header
	if err := x.receiveHeader(cn, br); err != nil {
		return false, err
	}
	length := h.ContentLength()
	switch s := h.StatusCode(); {
	case s < 200 || s == http.StatusNoContent || s == http.StatusNotModified:
		return s >= 200, nil // never has a body
	case mayReply(s) && x.request.Before != nil && x.request.Before(x.fields) > 0:
		complete, err = x.takeBefore(body(br, length), int64(length))
	case mayReply(s) && length >= 0 && length <= x.inline():
		x.body = make([]byte, length)
		_, err = io.ReadFull(br, x.body)
		return true, unexpected(err)
	case mayReply(s):
		complete, err = x.takeLarge(body(br, length), int64(length))
	default:
		x.body, complete, err = readStart(body(br, length), int64(length))
	}
	if err != nil {
		return false, err
	}
	if length == chunked && complete {
		return complete, unexpected(h.ReadTrailer(br))
	}
	return complete, nil
}

// receiveHeader reads the header of the answer, and those before it.
func (x *exchange) receiveHeader(cn *conn, br *bufio.Reader) error {
	h := &x.in.header
	for n := 0; ; n++ {
		if err := x.in.read(br); err != nil {
			return err
		}
		if s := h.StatusCode(); s < 100 || s > 199 || s == http.StatusSwitchingProtocols {
			break
		}
		if n == maxInformational {
			return fmt.Errorf("more than %d informational responses", n)
		}
		if err := x.listen(cn); err != nil {
			return err
		}
	}
	if x.request.Quiet > 0 {
		if err := cn.SetReadDeadline(x.deadline); err != nil {
			return err
		}
	}
	for _, name := range x.request.Fields {
		x.fields = append(x.fields, strings.Clone(peek(x.in.fields, name)))
	}
	return nil
}

// listen sets how long to wait for the next sign of life.
func (x *exchange) listen(cn *conn) error {
	if x.request.Quiet <= 0 {
		return nil
	}
	if until := time.Now().Add(x.request.Quiet); until.Before(x.deadline) {
		return cn.SetReadDeadline(until)
	}
	return cn.SetReadDeadline(x.deadline)
}

// takeBefore takes in a body with something before the event.
func (x *exchange) takeBefore(body io.Reader, length int64) (complete bool, err error) {
	if x.before, err = readBefore(x.request, x.fields, body); err != nil {
		return false, err
	}
	if length >= 0 {
		length -= int64(len(x.before))
	}
	return x.takeLarge(body, length)
}

// body is what of br belongs to a body of a length that fasthttp gave.
func body(br *bufio.Reader, length int) io.Reader {
	switch {
	case length == chunked:
		return httputil.NewChunkedReader(br)
	case length >= 0:
		return &announced{br, int64(length)}
	}
	return br // until the connection's end
}

// announced is a body of known length: that it ends sooner is an error.
type announced struct {
	src  io.Reader
	left int64
}

func (a *announced) Read(p []byte) (int, error) {
	if a.left == 0 {
		return 0, io.EOF
	}
	n, err := a.src.Read(p[:min(int64(len(p)), a.left)])
	a.left -= int64(n)
	if a.left > 0 {
		err = unexpected(err)
	}
	return n, err
}

// takeLarge takes in a body that may be more than memory is to hold.
func (x *exchange) takeLarge(body io.Reader, length int64) (complete bool, err error) {
	ctx, cancel := context.WithDeadline(x.ctx, x.deadline)
	defer cancel()
	t, err := x.takeBody(ctx, x.request, x.in.fields, body, length)
	if err != nil {
		return false, err
	}
	if t.whole {
		x.body = t.data
	} else {
		x.large = &t
	}
	return t.end, nil
}

// chunked is what fasthttp gives as the length of a chunked body.
const chunked = -1

// unexpected: within a message the end of the stream is an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// stale marks the errors of a kept connection that the other side may have
// closed. A timeout is not one: the server had the event for so long.
func stale(cn *conn, err error) error {
	if !cn.used || isTimeout(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errStale, err)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// write sends the request, in one write or one writev.
func (x *exchange) write(cn *conn) error {
	o := x.buffers.outbox()
	defer x.buffers.keep(o)
	o.add("POST ", x.endpoint.path, " HTTP/1.1\r\n")
	o.field("host", x.endpoint.host)
	data := message(o.field, x.request, x.format)
	if x.held != nil {
		data = x.held
	}
	o.add("content-length: ")
	o.head = strconv.AppendInt(o.head, int64(len(data)), 10)
	o.add("\r\n\r\n")
	if len(data) <= cap(o.head)-len(o.head) {
		o.head = append(o.head, data...)
		_, err := cn.Write(o.head)
		return err
	}
	parts := net.Buffers{o.head, data}
	_, err := parts.WriteTo(cn.Conn)
	return err
}

func (x *exchange) result() Result {
	h := &x.in.header
	a := answer{status: h.StatusCode(), header: x.in.fields, body: x.body}
	if a.status > 299 {
		a.retryAfter = peek(a.header, "Retry-After")
	}
	if t := x.large; t != nil {
		a.reply, a.tooBig = t.reply, t.tooBig
	}
	r := result(a, x.request.Event)
	r.Fields, r.Before = x.fields, x.before
	return r
}

// peek finds a header, whatever the case of its name.
func peek(fields []event.Attribute, name string) string {
	for i := range fields {
		if strings.EqualFold(fields[i].Name, name) {
			return fields[i].Value
		}
	}
	return ""
}
