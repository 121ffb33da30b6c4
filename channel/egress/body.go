package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// taken is the body of a response that may be a reply.
type taken struct {
	// data is the body if all of it is in memory; else reply is the event
	// that it made together with the header, or nil if it is none.
	data   []byte
	whole  bool
	reply  *event.Event
	end    bool // the body was read to its end
	tooBig string
}

// inline is the most of a body that is read into memory before it is asked what
// it is.
func (c *Client) inline() int {
	if c.Payloads == nil {
		return c.MaxReplyBytes
	}
	return min(c.Payloads.Threshold(), c.MaxReplyBytes)
}

// readBefore reads what stands before an event in a body.
func readBefore(r *Request, fields []string, body io.Reader) ([]byte, error) {
	if r.Before == nil {
		return nil, nil
	}
	n := r.Before(fields)
	if n <= 0 {
		return nil, nil
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(body, b); err != nil {
		return nil, unexpected(err)
	}
	return b, nil
}

// takeBody takes in the body of a response that may be a reply: into memory up to
// the threshold, and beyond it into the store for payloads, in one pass. length
// is negative if it is not known.
func (c *Client) takeBody(
	ctx context.Context, r *Request, header []event.Attribute, body io.Reader, length int64,
) (taken, error) {
	head, more, err := readHead(body, length, c.inline())
	switch {
	case err != nil:
		return taken{}, err
	case !more:
		return taken{data: head, whole: true, end: true}, nil
	case c.Payloads == nil:
		return taken{tooBig: fmt.Sprintf("larger than %d bytes", c.MaxReplyBytes)}, nil
	case event.IsStructured(all(header)):
		return c.takeStructured(ctx, r, header, head, body)
	}
	reply, err := event.FromFields(header, nil)
	if err != nil {
		// No event, or none that can be read: that is in the header, and
		// what follows is of no use.
		return taken{data: nil, whole: true}, nil //nolint:nilerr // result decodes it again
	}
	return c.store(ctx, r, reply, event.Incoming{Head: head, Rest: body, Length: length})
}

// readHead reads a body as far as it belongs into memory, and tells whether there
// is more. What is announced to be more stays where it is.
func readHead(body io.Reader, length int64, inline int) (head []byte, more bool, err error) {
	switch {
	case length > int64(inline):
		return nil, true, nil
	case length >= 0:
		head = make([]byte, length)
		_, err = io.ReadFull(body, head)
		return head, false, unexpected(err)
	}
	head, err = io.ReadAll(io.LimitReader(body, int64(inline)+1))
	return head, len(head) > inline, err
}

// takeStructured takes in an event in structured mode, which must be in memory to
// be read. Its data may be too large to stay there.
func (c *Client) takeStructured(
	ctx context.Context, r *Request, header []event.Attribute, head []byte, body io.Reader,
) (taken, error) {
	rest, err := io.ReadAll(io.LimitReader(body, int64(c.MaxReplyBytes)+1-int64(len(head))))
	if err != nil {
		return taken{}, err
	}
	doc := append(head, rest...)
	if len(doc) > c.MaxReplyBytes {
		return taken{tooBig: fmt.Sprintf("larger than %d bytes, the most in structured mode", c.MaxReplyBytes)}, nil
	}
	reply, err := event.FromFields(header, doc)
	if err != nil || len(reply.Data) <= c.Payloads.Threshold() {
		return taken{data: doc, whole: true, end: true}, nil //nolint:nilerr // as above
	}
	data := reply.Data
	reply.Data = nil
	t, err := c.store(ctx, r, reply, event.Incoming{Head: data, Length: int64(len(data))})
	return t, err
}

func (c *Client) store(ctx context.Context, r *Request, reply *event.Event, in event.Incoming) (taken, error) {
	in.Owner, in.ContentType, in.Same = r.ReplyOwner, reply.DataContentType, r.Event.Payload
	p, err := c.Payloads.Store(ctx, in)
	if errors.Is(err, event.ErrPayloadTooLarge) {
		return taken{tooBig: fmt.Sprintf("larger than %d bytes", c.Payloads.Limit())}, nil
	}
	if err != nil {
		return taken{}, err
	}
	reply.Payload = p
	return taken{reply: reply, end: true}, nil
}

func all(fields []event.Attribute) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for i := range fields {
			if !yield(fields[i].Name, fields[i].Value) {
				return
			}
		}
	}
}
