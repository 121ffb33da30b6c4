package ingress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// overhead is what a request costs beside its body, about: header, event and
// record.
const overhead = 4 << 10

// Sizes of the buffers that bodies are read into.
const (
	firstBuffer = 2 << 10
	keepBuffer  = 64 << 10 // larger ones are not kept
)

var buffers = sync.Pool{New: func() any { return &buffer{data: make([]byte, 0, firstBuffer)} }}

type buffer struct{ data []byte }

// body is a request's, in memory, charged to the budget. Its bytes may be used
// until free.
type body struct {
	bytes   []byte
	buf     *buffer
	charged int64
	x       *exchange
	from    paced
	most    int  // bytes that belong into memory
	stream  bool // what is more goes to the store for payloads
	more    bool // there is more, which was not read
}

func (b *body) free() {
	if cap(b.bytes) <= keepBuffer {
		b.buf.data = b.bytes[:0]
		buffers.Put(b.buf)
	}
	b.x.Budget.Release(b.x.channel.Namespace, b.charged)
}

// charge takes n bytes more from the budget.
func (b *body) charge(n int64) error {
	budget, namespace := b.x.Budget, b.x.channel.Namespace
	if !budget.TryAcquire(namespace, n) {
		wait := b.x.BudgetWait
		if wait == 0 {
			wait = DefaultBudgetWait
		}
		ctx, cancel := context.WithTimeout(b.x.request.Context(), wait)
		defer cancel()
		if err := budget.Acquire(ctx, namespace, n); err != nil {
			return refusal{
				status:     http.StatusServiceUnavailable,
				text:       fmt.Sprintf("busy: no memory for %d more bytes; send the event again", n),
				retryAfter: retryAfter,
			}
		}
	}
	b.charged += n
	return nil
}

// read takes in the body, as far as it belongs into memory. The budget is charged
// before memory is taken: for all of it if the client says how long it is, or
// else for each doubling.
func (x *exchange) read() (*body, error) {
	length := x.request.Length()
	memory, limit := x.limits()
	if length > limit {
		return nil, tooLarge(length, limit)
	}
	b := &body{x: x, from: x.pace(), most: memory, stream: limit > int64(memory)}
	b.more = length > int64(b.most)
	if b.more {
		length = 0 // nothing is read before it is known to be an event
	}
	if err := b.charge(max(length, firstBuffer) + overhead); err != nil {
		return nil, err
	}
	b.buf, _ = buffers.Get().(*buffer)
	b.bytes = b.buf.data[:0]
	// One byte more than is expected: so that the end is seen without
	// another buffer.
	if need := int(max(length, 0)) + 1; cap(b.bytes) < need {
		b.bytes = make([]byte, 0, need)
	}
	if !b.more {
		if err := b.fill(); err != nil {
			x.unread = true
			b.free()
			return nil, err
		}
	}
	x.bytes, x.unread = len(b.bytes), b.more
	return b, nil
}

// fill reads to the end of the body, or one byte beyond what belongs into memory.
func (b *body) fill() error {
	for {
		if len(b.bytes) == cap(b.bytes) {
			if err := b.charge(int64(cap(b.bytes))); err != nil {
				return err
			}
			grown := make([]byte, len(b.bytes), 2*cap(b.bytes))
			copy(grown, b.bytes)
			b.bytes = grown
		}
		// Never more than shows that it is too much: net/http waits until
		// what it was given is full of a chunk.
		n, err := b.from.Read(b.bytes[len(b.bytes):min(cap(b.bytes), b.most+1)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		if len(b.bytes) > b.most {
			if b.stream {
				b.more = true
				return nil
			}
			return refusal{
				status: http.StatusRequestEntityTooLarge,
				text:   fmt.Sprintf("the event is larger than %d bytes, the most that is accepted", b.most),
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			// Not every server tells a connection's end from the body's.
			if want := b.x.request.Length(); want >= 0 && int64(len(b.bytes)) != want {
				return brokenOff(int64(len(b.bytes)), want)
			}
			return nil
		case err != nil:
			return unreadable(err)
		}
	}
}

// unreadable is what a client is told whose body could not be read.
func unreadable(err error) refusal {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return refusal{status: http.StatusRequestTimeout, text: "the body came too slowly, or no more of it came"}
	}
	return refusal{status: http.StatusBadRequest, text: "the body broke off: " + err.Error()}
}

func brokenOff(got, want int64) refusal {
	return refusal{
		status: http.StatusBadRequest,
		text:   fmt.Sprintf("the body broke off after %d of %d bytes", got, want),
	}
}

// store hands the data of e to the store for payloads, in one pass as it comes.
func (x *exchange) store(e *event.Event, b *body) error {
	in := event.Incoming{Owner: x.channel.Namespace + "/" + x.channel.Name, ContentType: e.DataContentType}
	rest := counted{from: &b.from}
	if b.more {
		in.Head, in.Rest, in.Length = b.bytes, &rest, x.request.Length()
	} else {
		in.Head, in.Length = e.Data, int64(len(e.Data))
	}
	if s, ok := x.Payloads.(event.Buffering); ok {
		if err := b.charge(s.Memory(in.Length)); err != nil {
			return err
		}
	}
	p, err := x.Payloads.Store(x.request.Context(), in)
	x.bytes = len(b.bytes) + int(rest.n)
	switch {
	case err == nil:
		e.Data, e.Payload = nil, p
		x.unread = false
		return nil
	case rest.err != nil:
		return unreadable(rest.err)
	case errors.Is(err, event.ErrPayloadLength):
		return brokenOff(int64(x.bytes), in.Length)
	case errors.Is(err, event.ErrPayloadSlow):
		return refusal{status: http.StatusRequestTimeout, text: "the body took longer to come than payloads are kept"}
	case errors.Is(err, event.ErrPayloadTooLarge):
		return refusal{
			status: http.StatusRequestEntityTooLarge,
			text:   fmt.Sprintf("the event is larger than %d bytes, the most that is accepted", x.Payloads.Limit()),
		}
	}
	return err
}

// counted keeps what a store's errors do not tell: whose fault it was.
type counted struct {
	from io.Reader
	n    int64
	err  error
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}
