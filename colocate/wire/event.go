package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// ErrEvent is wrapped by the errors of ParseEvent.
var ErrEvent = errors.New("invalid event in a message")

// maxFields bounds the headers of an event in a message: attributes, transport
// headers and the required ones.
const maxFields = 2*event.MaxAttributes + 8

// AppendEvent appends e, whose data must be in memory, as one that stands before
// the data of another in a body: the number of its headers, each as name and
// value with their lengths before them, and then its data, to the end. Numbers
// are uvarints. The headers are those of CloudEvents over HTTP.
func AppendEvent(dst []byte, e *event.Event) []byte {
	n := 0
	data := Message(func(string, string) { n++ }, e)
	dst = binary.AppendUvarint(dst, uint64(n))
	Message(func(name, value string) {
		dst = append(binary.AppendUvarint(dst, uint64(len(name))), name...)
		dst = append(binary.AppendUvarint(dst, uint64(len(value))), value...)
	}, e)
	return append(dst, data...)
}

// Message adds the headers of e in an answer, and returns its body as far as that
// is in memory. Where event.StructuredOnly, that is the whole event if its data
// is in memory, and else event.StructuredStream is the body.
func Message(add func(name, value string), e *event.Event) []byte {
	if !event.StructuredOnly(e) {
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

// ParseEvent reads what AppendEvent wrote. The event keeps nothing of b.
func ParseEvent(b []byte) (*event.Event, error) {
	r := reader{b: string(b)}
	n := int(r.num(maxFields))
	var all [][2]string
	for range n {
		if r.bad {
			break
		}
		all = append(all, [2]string{r.str(MaxEntering), r.str(MaxEntering)})
	}
	if r.bad {
		return nil, fmt.Errorf("%w: malformed", ErrEvent)
	}
	e, err := event.FromHTTP(func(yield func(string, string) bool) {
		for _, f := range all {
			if !yield(f[0], f[1]) {
				return
			}
		}
	}, []byte(r.b))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	return e, nil
}
