package egress

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"
	"unsafe"

	"github.com/valyala/fasthttp"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// sendLean makes one attempt on a kept connection, with fasthttp's codec. The
// connections are our own because the attempts of a context must be abortable,
// and because the difference between "no answer" and "the other side had closed
// the idle connection" decides whether an event is dead-lettered.
func (c *Client) sendLean(ctx context.Context, e *endpoint, r *Request, f Format, timeout time.Duration) Result {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	fill(req, e, r, f)
	resp.Header.DisableNormalizing()
	resp.Header.SetNoDefaultContentType(true)
	deadline := time.Now().Add(timeout)
	err := c.exchange(ctx, e.pool, req, resp, deadline, false)
	if errors.Is(err, errStale) {
		err = c.exchange(ctx, e.pool, req, resp, deadline, true)
	}
	if err != nil && !errors.Is(err, fasthttp.ErrBodyTooLarge) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return Result{Err: fmt.Errorf("post to %s: %w", r.Target.Display(), err)}
	}
	return leanResult(resp, err)
}

// errStale: a kept connection turned out to be closed before any byte of a
// response came. A server may close a connection that is idle at any moment,
// also just as we write to it (RFC 9112, 9.3.1). That says nothing about the
// event, so it is sent once more on a fresh connection, as the same attempt.
// Should the server have seen it, it sees it twice: at least once.
var errStale = errors.New("kept connection was closed")

func (c *Client) exchange(
	ctx context.Context, p *pool, req *fasthttp.Request, resp *fasthttp.Response, deadline time.Time, fresh bool,
) error {
	cn, err := p.take(ctx, deadline, fresh)
	if err != nil {
		return err
	}
	if !c.aborts.enter(ctx, cn) {
		p.drop(cn)
		return context.Cause(ctx)
	}
	reusable, err := c.roundTrip(cn, req, resp, deadline)
	c.aborts.leave(cn)
	if reusable && ctx.Err() == nil {
		p.put(cn)
	} else {
		p.drop(cn)
	}
	return err
}

// roundTrip tells whether the connection can carry another exchange.
func (c *Client) roundTrip(
	cn *conn, req *fasthttp.Request, resp *fasthttp.Response, deadline time.Time,
) (reusable bool, err error) {
	if err := cn.SetDeadline(deadline); err != nil {
		return false, stale(cn, err)
	}
	w := c.buffers.writer(cn)
	err = req.Write(w)
	if err == nil {
		err = w.Flush()
	}
	w.Reset(nil)
	c.buffers.writers.Put(w)
	if err != nil && isTimeout(err) {
		return false, err
	}
	unsent := err
	br := c.buffers.reader(cn)
	defer c.release(br)
	if _, err := br.Peek(1); err != nil {
		return false, stale(cn, errors.Join(unsent, err))
	}
	// A server may answer and close before it has read everything, as with
	// 413 or 401: the answer counts, and not that it hung up on us.
	complete, err := receive(br, resp, c.MaxReplyBytes)
	if err != nil {
		return false, errors.Join(unsent, err)
	}
	return unsent == nil && complete && br.Buffered() == 0 && !resp.ConnectionClose(), nil
}

func (c *Client) release(br *bufio.Reader) {
	br.Reset(nil)
	c.buffers.readers.Put(br)
}

// maxInformational bounds the 1xx responses before an answer. A step that is
// kept alive by them sends one every few seconds.
const maxInformational = 1024

// receive reads a response: whole if its body may be a reply, else the beginning
// of its body. It tells whether the response was read to its end.
func receive(br *bufio.Reader, resp *fasthttp.Response, maxReply int) (complete bool, err error) {
	h := &resp.Header
	for n := 0; ; n++ {
		if err := h.Read(br); err != nil {
			return false, err
		}
		if s := h.StatusCode(); s < 100 || s > 199 || s == http.StatusSwitchingProtocols {
			break
		}
		if n == maxInformational {
			return false, fmt.Errorf("more than %d informational responses", n)
		}
	}
	length := h.ContentLength()
	switch s := h.StatusCode(); {
	case s < 200 || s == http.StatusNoContent || s == http.StatusNotModified:
		return s >= 200, nil // never has a body
	case mayReply(s):
		if err := resp.ReadBody(br, maxReply); err != nil {
			return false, err
		}
		complete = true
	default:
		var body io.Reader = br
		if length == chunked {
			body = httputil.NewChunkedReader(br)
		}
		start, end, err := readStart(body, int64(length))
		if err != nil {
			return false, err
		}
		resp.SetBodyRaw(start)
		complete = end
	}
	if length == chunked && complete {
		return complete, unexpected(h.ReadTrailer(br))
	}
	return complete, nil
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

// fill writes the request. Names are sent as they are, in lower case: HTTP does
// not mind, and it saves the folding.
func fill(req *fasthttp.Request, e *endpoint, r *Request, f Format) {
	h := &req.Header
	h.DisableNormalizing()
	h.SetNoDefaultContentType(true)
	h.SetMethod(fasthttp.MethodPost)
	h.SetRequestURI(e.path)
	h.SetHost(e.host)
	req.SetBodyRaw(message(h.Add, r, f))
}

// message adds the headers of a request and returns its body.
func message(add func(name, value string), r *Request, f Format) []byte {
	if r.PreferReply {
		add("prefer", "reply")
	}
	if r.Namespace != "" {
		add("kn-namespace", r.Namespace)
	}
	if f == Binary && !event.StructuredOnly(r.Event) {
		event.AppendHTTPHeader(add, r.Event)
		return r.Event.Data
	}
	add("content-type", event.StructuredContentType)
	for _, t := range r.Event.Transport {
		add(t.Name, t.Value)
	}
	return event.AppendStructured(nil, r.Event)
}

func leanResult(resp *fasthttp.Response, err error) Result {
	tooLarge := errors.Is(err, fasthttp.ErrBodyTooLarge)
	body := resp.Body()
	return result(answer{
		status:     resp.StatusCode(),
		retryAfter: peek(&resp.Header, "Retry-After"),
		header:     headerOf(&resp.Header),
		body:       body,
		tooLarge:   tooLarge,
		// The response goes back to its pool: a reply gets a copy.
		own: func(b []byte) []byte { return append([]byte(nil), b...) },
	})
}

// peek finds a header, whatever the case of its name: Peek itself does not,
// since names are left as they came.
func peek(h *fasthttp.ResponseHeader, name string) string {
	for k, v := range headerOf(h) {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// headerOf yields strings that alias the response: event.FromHTTP copies what
// it keeps.
func headerOf(h *fasthttp.ResponseHeader) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for k, v := range h.All() {
			if !yield(view(k), view(v)) {
				return
			}
		}
	}
}

func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
