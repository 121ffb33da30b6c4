package egress

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
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
		return Result{Err: fmt.Errorf("post to %s: %w", r.Target.URL, err)}
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
	if err != nil {
		return false, stale(cn, err)
	}
	br := c.buffers.reader(cn)
	if _, err := br.Peek(1); err != nil {
		c.release(br)
		return false, stale(cn, err)
	}
	err = resp.ReadLimitBody(br, c.MaxReplyBytes)
	clean := br.Buffered() == 0
	c.release(br)
	if err != nil {
		return false, err
	}
	return clean && !resp.ConnectionClose(), nil
}

func (c *Client) release(br *bufio.Reader) {
	br.Reset(nil)
	c.buffers.readers.Put(br)
}

// stale marks the errors of a kept connection that the other side may have
// closed. A timeout is not one: the server had the event for so long.
func stale(cn *conn, err error) error {
	var t interface{ Timeout() bool }
	if !cn.used || (errors.As(err, &t) && t.Timeout()) {
		return err
	}
	return fmt.Errorf("%w: %w", errStale, err)
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
	setHeader(h.Set, r)
	if f == Structured {
		h.SetContentType(event.StructuredContentType)
		for _, t := range r.Event.Transport {
			h.Set(t.Name, t.Value)
		}
		req.SetBodyRaw(event.AppendStructured(nil, r.Event))
		return
	}
	event.AppendHTTPHeader(h.Set, r.Event)
	req.SetBodyRaw(r.Event.Data)
}

// setHeader sets what a delivery says beside the event.
func setHeader(set func(name, value string), r *Request) {
	if r.PreferReply {
		set("prefer", "reply")
	}
	if r.Namespace != "" {
		set("kn-namespace", r.Namespace)
	}
}

func leanResult(resp *fasthttp.Response, err error) Result {
	tooLarge := errors.Is(err, fasthttp.ErrBodyTooLarge)
	body := resp.Body()
	return result(answer{
		status:     resp.StatusCode(),
		retryAfter: view(resp.Header.Peek("Retry-After")),
		header:     headerOf(&resp.Header),
		body:       body,
		tooLarge:   tooLarge,
		// The response goes back to its pool: a reply gets a copy.
		own: func(b []byte) []byte { return append([]byte(nil), b...) },
	})
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
