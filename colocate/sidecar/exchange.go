package sidecar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
	"unsafe"

	"github.com/valyala/fasthttp"

	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// What a request costs in memory beside its data, about.
const overhead = 4 << 10

// maxStructured bounds an event that comes in structured mode, as it must be in
// memory to be read: egress has the same bound.
const maxStructured = 8 << 20

// refusal is why nothing was done, and the status that says so.
type refusal struct {
	status int
	reason wire.Reason
	err    error
}

func notMine(status int, err error) *refusal { return &refusal{status, wire.NotMine, err} }

// tooLarge is 200 as all spills are.
func tooLarge(err error) *refusal { return &refusal{http.StatusOK, wire.TooLarge, err} }

func (r *refusal) Error() string { return r.err.Error() }

// serveChain runs one chain:
//
//	slip good? --> place at the first step? memory? --> read the event --> run --> answer
//	   | no             | no                               | no room
//	   v                v                                  v
//	  403              503                                spilled, before the first step
func (s *Server) serveChain(ctx *fasthttp.RequestCtx) {
	h := &ctx.Request.Header
	header := h.Peek(wire.SlipHeader)
	if len(header) == 0 {
		say(ctx, http.StatusBadRequest, "want a slip in the header "+wire.SlipHeader)
		return
	}
	slip, err := s.s.verifier.Verify(view(header))
	if err != nil {
		s.refuse(ctx, 0, notMine(http.StatusForbidden, err))
		return
	}
	limits, err := wire.ParseLimits(view(h.Peek(wire.LimitsHeader)))
	if err == nil && limits.Start >= len(slip.calls) {
		err = fmt.Errorf("%w: start=%d of %d steps", wire.ErrLimits, limits.Start, len(slip.calls))
	}
	if err != nil {
		s.refuse(ctx, 0, notMine(http.StatusBadRequest, err))
		return
	}
	c := &chain{s: s.s, slip: slip, limits: limits, at: limits.Start, end: len(slip.calls), first: true}
	if limits.Steps > 0 {
		c.end = min(c.end, c.at+limits.Steps)
	}
	if !s.admit(c, int64(h.ContentLength())) {
		s.busy(ctx)
		return
	}
	s.runChain(ctx, c)
}

// admit takes what a chain needs to begin: its place at the first step, unless its
// event is so large that the place would be empty for long, or may wait for one, and
// memory.
func (s *Server) admit(c *chain, length int64) bool {
	if s.s.chains.Add(1) > int64(s.s.MaxChains) || s.s.draining.Load() {
		s.s.chains.Add(-1)
		return false
	}
	first := c.slip.calls[c.at].step
	c.placed = first.try()
	if !c.placed && c.limits.Wait <= 0 {
		s.s.chains.Add(-1)
		return false
	}
	if length < 0 || length > int64(s.s.Inline) {
		length = int64(s.s.Inline)
		if c.placed {
			first.leave()
			c.placed = false
		}
	}
	if n := length + overhead; s.s.memory.TryAcquire("", n) {
		c.charged = n
		c.begin()
		return true
	}
	if c.placed {
		first.leave()
	}
	s.s.chains.Add(-1)
	return false
}

func (s *Server) runChain(ctx *fasthttp.RequestCtx, c *chain) {
	conn, _ := ctx.Conn().(*conn)
	conn.linger.Store(false)
	e, err := s.read(ctx, c, conn.ctx)
	if err != nil {
		c.close()
		var r *refusal
		if errors.As(err, &r) {
			s.refuse(ctx, c.at, r)
			return
		}
		s.hangUp(ctx, err)
		return
	}
	c.event = e
	conn.begin(h11(ctx))
	err = c.run(conn.ctx)
	conn.end()
	if err != nil {
		c.close()
		s.hangUp(ctx, err)
		return
	}
	s.answer(ctx, c)
}

func h11(ctx *fasthttp.RequestCtx) bool { return ctx.Request.Header.IsHTTP11() }

// read takes in the event: into memory, or beyond that into a file.
func (s *Server) read(ctx *fasthttp.RequestCtx, c *chain, life context.Context) (*event.Event, error) {
	length := int64(ctx.Request.Header.ContentLength())
	body := ctx.RequestBodyStream()
	if body == nil {
		body = http.NoBody
	}
	head, more, err := readHead(body, length, s.s.Inline)
	if err != nil {
		return nil, err
	}
	header := (*fields)(&ctx.Request.Header).all
	structured := more && event.IsStructured(header)
	if structured {
		rest, err := io.ReadAll(io.LimitReader(body, maxStructured+1-int64(len(head))))
		if err != nil {
			return nil, err
		}
		if head = append(head, rest...); len(head) > maxStructured {
			return nil, tooLarge(fmt.Errorf("larger than %d bytes, the most in structured mode", maxStructured))
		}
	}
	data := head
	if more && !structured {
		data = nil
	}
	e, err := event.FromHTTP(header, data)
	switch {
	case err != nil:
		return nil, notMine(http.StatusBadRequest, err)
	case structured && len(e.Data) > s.s.Inline:
		data := e.Data
		e.Data = nil
		return s.store(life, c, e, event.Incoming{Head: data, Length: int64(len(data))})
	case more && !structured:
		return s.store(life, c, e, event.Incoming{Head: head, Rest: body, Length: length})
	}
	return e, nil
}

func (s *Server) store(life context.Context, c *chain, e *event.Event, in event.Incoming) (*event.Event, error) {
	in.Owner = c.owner
	p, err := s.s.spool.Store(life, in)
	if errors.Is(err, event.ErrPayloadUnavailable) {
		return nil, tooLarge(err)
	}
	if err != nil {
		return nil, err
	}
	e.Payload = p
	return e, nil
}

// readHead reads a body as far as it belongs into memory, and tells whether there
// is more. A body that breaks off is an error, which fasthttp does not tell.
func readHead(body io.Reader, length int64, inline int) (head []byte, more bool, err error) {
	if length >= 0 && length <= int64(inline) {
		head = make([]byte, length)
		_, err = io.ReadFull(body, head)
		return head, false, err
	}
	if length > 0 {
		return nil, true, nil
	}
	head, err = io.ReadAll(io.LimitReader(body, int64(inline)+1))
	return head, len(head) > inline, err
}

// fields yields strings that alias the request: event.FromHTTP copies what it
// keeps.
type fields fasthttp.RequestHeader

func (f *fields) all(yield func(string, string) bool) {
	for k, v := range (*fasthttp.RequestHeader)(f).All() {
		if !yield(view(k), view(v)) {
			return
		}
	}
}

func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// scratch is for the values of headers.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// head writes the part of an answer that each has.
func (s *Server) head(ctx *fasthttp.RequestCtx, o *wire.Outcome, elapsed time.Duration) {
	s.s.counts.outcome(o)
	buf, _ := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	h := &ctx.Response.Header
	h.DisableNormalizing()
	*buf = o.Append((*buf)[:0])
	h.SetBytesV(wire.OutcomeHeader, *buf)
	*buf = s.s.appendReport((*buf)[:0], elapsed)
	h.SetBytesV(reportHeader, *buf)
}

// retryAfter of a busy sidecar, in seconds: it is not known when there will be a
// place, and another pod is the better choice.
const retryAfter = 1

func (s *Server) busy(ctx *fasthttp.RequestCtx) {
	linger(ctx)
	ctx.SetStatusCode(http.StatusServiceUnavailable)
	o := wire.Outcome{Kind: wire.Busy, Reason: wire.Overload, Seen: wire.Seen{RetryAfter: retryAfter * time.Second}}
	s.head(ctx, &o, 0)
	ctx.Response.Header.Set("retry-after", fmt.Sprint(retryAfter))
}

// fasthttpReads is the most of a body that nobody has read that fasthttp reads and
// forgets; on more it closes the connection.
const fasthttpReads = 256 << 10

// linger is for answers that do not wait for the end of the body.
func linger(ctx *fasthttp.RequestCtx) {
	if n := ctx.Request.Header.ContentLength(); n >= 0 && n <= fasthttpReads {
		return
	}
	ctx.SetConnectionClose() // so that the client does not use it again
	if c, ok := ctx.Conn().(*conn); ok {
		c.linger.Store(true)
	}
}

// refuse says that nothing was done, and why; at is the first step of the chain, if
// that is known.
func (s *Server) refuse(ctx *fasthttp.RequestCtx, at int, r *refusal) {
	if r.reason == wire.NotMine {
		s.s.counts.refused.Add(1)
		s.complain(ctx.RemoteAddr(), r.err)
	}
	linger(ctx)
	say(ctx, r.status, r.err.Error())
	s.head(ctx, &wire.Outcome{Kind: wire.Spilled, Step: at, Reason: r.reason, Seen: wire.Seen{Error: r.err.Error()}}, 0)
}

// complainEvery bounds what refused chains write to the log: whoever has a wrong key
// has many of them.
const complainEvery = 10 * time.Second

func (s *Server) complain(client net.Addr, err error) {
	now, last := time.Now().UnixNano(), s.complained.Load()
	if now-last < int64(complainEvery) || !s.complained.CompareAndSwap(last, now) {
		return
	}
	s.s.Logger.Warn("refused a chain", "client", client, "error", err, "refused", s.s.counts.refused.Load())
}

// hangUp answers a chain that has no outcome: without ours, if anybody is left
// who reads it.
func (s *Server) hangUp(ctx *fasthttp.RequestCtx, err error) {
	if errors.Is(err, errLost) {
		s.s.counts.lost.Add(1)
		s.s.Logger.Error("a chain is lost; its dispatcher runs it anew", "error", err)
	} else {
		s.s.counts.gone.Add(1)
	}
	ctx.SetConnectionClose()
	say(ctx, http.StatusInternalServerError, err.Error())
}

// answer sends the outcome and the event, and closes the chain when that is done.
func (s *Server) answer(ctx *fasthttp.RequestCtx, c *chain) {
	ctx.SetStatusCode(http.StatusOK)
	e := c.event
	var stream io.ReadCloser
	if e != nil && e.Payload != nil {
		var err error
		if stream, err = e.Payload.Open(ctx); err != nil {
			c.close()
			s.hangUp(ctx, errors.Join(errLost, err))
			return
		}
	}
	s.head(ctx, &c.outcome, time.Since(c.began))
	if e == nil {
		c.close()
		return
	}
	data := wire.Message(ctx.Response.Header.Add, e)
	if stream == nil {
		// The chain's memory counts as long as the chain: fasthttp has the data
		// until it is sent, which is no longer than its buffers are.
		ctx.Response.SetBodyRaw(before(c.entered, data))
		c.close()
		return
	}
	var from io.Reader = stream
	length := e.Size()
	if event.StructuredOnly(e) {
		from, length = event.StructuredStream(e, stream)
	}
	from = io.MultiReader(bytes.NewReader(c.entered), from)
	ctx.Response.SetBodyStream(&sending{from, stream, c}, int(length)+len(c.entered))
}

func before(first, data []byte) []byte {
	if len(first) == 0 {
		return data
	}
	return append(first, data...)
}

// sending is an answer on its way.
type sending struct {
	io.Reader
	file  io.Closer
	chain *chain
}

// WriteTo implements io.WriterTo, since w's own buffer is small.
func (s *sending) WriteTo(w io.Writer) (int64, error) {
	buf, _ := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{w}, s.Reader, buf[:])
}

// Close ends the chain: the answer is sent, or was given up.
func (s *sending) Close() error {
	if s.chain == nil {
		return nil
	}
	err := s.file.Close()
	s.chain.close()
	s.chain = nil
	return err
}
