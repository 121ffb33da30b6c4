package event

import (
	"iter"
	"strings"
	"unsafe"
)

// FromHTTP decodes one message in binary or structured mode; header names in
// any case. The Event owns body from then on: in binary mode it is its Data.
// The header's strings are copied. Errors: ErrNotCloudEvent, ErrBatch,
// ErrInvalid.
func FromHTTP(header iter.Seq2[string, string], body []byte) (*Event, error) {
	d := newDecoder()
	// A loop that is left early would have its state on the heap.
	if header(d.push); d.err != nil {
		return nil, d.err
	}
	return d.event(body)
}

// FromFields is FromHTTP of a header in a slice, without what an iterator costs.
func FromFields(header []Attribute, body []byte) (*Event, error) {
	d := newDecoder()
	for i := range header {
		if err := d.take(header[i].Name, header[i].Value); err != nil {
			return nil, err
		}
	}
	return d.event(body)
}

// decoder is an Event that is being read, and the memory of its strings: one
// allocation where they are not long.
type decoder struct {
	e    Event
	buf  []byte
	room [256]byte // what buf is at first
	low  [48]byte  // scratch: a header's name in lower case
	err  error
}

func newDecoder() *decoder {
	d := new(decoder)
	d.buf = d.room[:0]
	return d
}

// event is the event when all of the header was taken.
func (d *decoder) event(body []byte) (*Event, error) {
	e := &d.e
	if hasMediaType(e.DataContentType, structuredPrefix) {
		return e.fromStructured(body)
	}
	if e.SpecVersion == "" && !e.named() {
		return nil, ErrNotCloudEvent
	}
	if err := e.validate(); err != nil {
		return nil, err
	}
	if len(body) > 0 {
		e.Data = body
	}
	return e, nil
}

// IsStructured tells whether a message is in structured mode, by its header.
func IsStructured(header iter.Seq2[string, string]) bool {
	for name, value := range header {
		if strings.EqualFold(name, contentType) {
			return hasMediaType(value, structuredPrefix)
		}
	}
	return false
}

// named tells whether any attribute came: then the message means to be an
// event, and what it lacks is worth telling.
func (e *Event) named() bool {
	return e.ID != "" || e.Source != "" || e.Type != "" || len(e.Attributes) > 0
}

func (d *decoder) push(name, value string) bool {
	d.err = d.take(name, value)
	return d.err == nil
}

// begins are the letters with which headers begin that may belong to an event, so
// that most of the others cost nothing.
var begins = [256]bool{'c': true, 't': true, 'b': true, 'x': true, 'k': true}

// take looks at one header.
func (d *decoder) take(name, value string) error {
	if name == "" || !begins[name[0]|0x20] {
		return nil
	}
	e := &d.e
	low := lower(d.low[:0], name)
	key := unsafe.String(unsafe.SliceData(low), len(low)) // of this call only
	switch {
	case key == contentType:
		e.DataContentType = d.add(value)
	case strings.HasPrefix(key, prefix):
		attribute := key[len(prefix):]
		if attribute == "datacontenttype" {
			return nil // Content-Type says it in binary mode
		}
		if attribute = required(attribute); attribute == "" {
			attribute = d.add(key[len(prefix):])
		}
		return e.set(attribute, unescape(d.add(value)), MaxAttributes)
	case transport(key, value):
		if len(e.Transport) >= MaxAttributes {
			return invalid("more than %d transport headers", MaxAttributes)
		}
		e.Transport = append(e.Transport, Attribute{d.add(key), d.add(value)})
	}
	return nil
}

// StructuredOnly tells whether e cannot be sent in binary mode: its data is in a
// CloudEvents format itself, and a receiver, who tells the modes apart by the
// Content-Type, would take the inner event for the whole.
func StructuredOnly(e *Event) bool { return hasMediaType(e.DataContentType, structuredPrefix) }

// AppendHTTPHeader adds e's headers in binary mode: attributes, Content-Type and
// the transport headers, with names in lower case. Names of transport headers
// may repeat.
func AppendHTTPHeader(add func(name, value string), e *Event) {
	add("ce-specversion", e.SpecVersion)
	add("ce-id", escape(e.ID))
	add("ce-source", escape(e.Source))
	add("ce-type", escape(e.Type))
	if e.DataContentType != "" {
		add(contentType, e.DataContentType)
	}
	for i := range e.Attributes {
		add(header(e.Attributes[i].Name), escape(e.Attributes[i].Value))
	}
	for i := range e.Transport {
		add(e.Transport[i].Name, e.Transport[i].Value)
	}
}

// add copies s. When the buffer is full a new one is begun: strings made
// before keep the old one alive.
func (d *decoder) add(s string) string {
	if len(s) == 0 {
		return ""
	}
	if cap(d.buf)-len(d.buf) < len(s) {
		d.buf = make([]byte, 0, max(len(d.room), len(s)))
	}
	i := len(d.buf)
	d.buf = append(d.buf, s...)
	return unsafe.String(&d.buf[i], len(s))
}

func lower(dst []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// hasMediaType tells whether a Content-Type begins with the given type, up to
// its suffix or parameters.
func hasMediaType(value, mediaType string) bool {
	return len(value) >= len(mediaType) && strings.EqualFold(value[:len(mediaType)], mediaType)
}
