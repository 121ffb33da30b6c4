package egress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// outgoing is the body of a request.
type outgoing struct {
	data       []byte // all of it, unless stream is set
	stream     *event.Event
	structured bool
	length     int64
	failed     atomic.Pointer[error] // why the data could not be read to its end
}

// message adds the headers of a request and returns its body, as far as it is in
// memory.
func message(add func(name, value string), r *Request, f Format) []byte {
	if r.PreferReply {
		add("prefer", "reply")
	}
	if r.Namespace != "" {
		add("kn-namespace", r.Namespace)
	}
	for _, x := range r.Extra {
		add(x.Name, x.Value)
	}
	e := r.Event
	if !structured(e, f) {
		event.AppendHTTPHeader(add, e)
		return e.Data
	}
	add("content-type", event.StructuredContentType)
	for _, t := range e.Transport {
		add(t.Name, t.Value)
	}
	if e.Payload != nil {
		return nil
	}
	return event.AppendStructured(nil, e)
}

func structured(e *event.Event, f Format) bool { return f == Structured || event.StructuredOnly(e) }

// newOutgoing is the body of e; data is what message returned.
func newOutgoing(data []byte, e *event.Event, f Format) *outgoing {
	o := &outgoing{data: data, length: int64(len(data)), structured: structured(e, f)}
	if e.Payload == nil {
		return o
	}
	o.stream, o.length = e, e.Size()
	if o.structured {
		_, o.length = event.StructuredStream(e, nil)
	}
	return o
}

// open begins the body; it may be begun again.
func (o *outgoing) open(ctx context.Context) (io.ReadCloser, error) {
	if o.length == 0 && o.stream == nil {
		return http.NoBody, nil
	}
	if o.stream == nil {
		return io.NopCloser(bytes.NewReader(o.data)), nil
	}
	o.failed.Store(nil)
	payload, err := o.stream.Payload.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	var from io.Reader = payload
	if o.structured {
		from, _ = event.StructuredStream(o.stream, payload)
	}
	s := sending{from, payload, o}
	if at, ok := from.(event.Chunked); ok {
		return &sendingChunks{s, at}, nil
	}
	return &s, nil
}

// broken is why the data could not be read, or nil.
func (o *outgoing) broken() error {
	if err := o.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// sending is a body on its way, which remembers its own faults: of those of a
// connection a transport tells the one or the other.
type sending struct {
	io.Reader
	payload io.Closer
	of      *outgoing
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	return n, s.note(err)
}

func (s *sending) note(err error) error {
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) &&
		!errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", ErrPayload, err)
		s.of.failed.Store(&err)
	}
	return err
}

func (s *sending) Close() error { return s.payload.Close() }

// sendingChunks is one whose bytes are at hand.
type sendingChunks struct {
	sending
	chunks event.Chunked
}

func (s *sendingChunks) Next(most int) ([]byte, error) {
	p, err := s.chunks.Next(most)
	return p, s.note(err)
}
