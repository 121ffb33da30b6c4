package ingress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
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
	from    io.Reader
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

// read takes in the body. The budget is charged before memory is taken: for
// all of it if the client says how long it is, or else for each doubling.
func (x *exchange) read() (*body, error) {
	length := x.request.Length()
	if length > int64(x.MaxEventBytes) {
		return nil, tooLarge(length, x.MaxEventBytes)
	}
	b := &body{x: x, from: x.request.Body()}
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
	if err := b.fill(); err != nil {
		b.free()
		return nil, err
	}
	x.bytes = len(b.bytes)
	return b, nil
}

func (b *body) fill() error {
	limit := b.x.MaxEventBytes
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
		n, err := b.from.Read(b.bytes[len(b.bytes):min(cap(b.bytes), limit+1)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		if len(b.bytes) > limit {
			return refusal{
				status: http.StatusRequestEntityTooLarge,
				text:   fmt.Sprintf("the event is larger than %d bytes, the most that is accepted", limit),
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			// Not every server tells a connection's end from the body's.
			if want := b.x.request.Length(); want >= 0 && int64(len(b.bytes)) != want {
				return refusal{
					status: http.StatusBadRequest,
					text:   fmt.Sprintf("the body broke off after %d of %d bytes", len(b.bytes), want),
				}
			}
			return nil
		case err != nil:
			return refusal{status: http.StatusBadRequest, text: "the body broke off: " + err.Error()}
		}
	}
}
