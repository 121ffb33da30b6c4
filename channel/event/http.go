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
	a := arena{buf: make([]byte, 0, 512), low: make([]byte, 0, 48)}
	e := &Event{Attributes: make([]Attribute, 0, 4)}
	for name, value := range header {
		if err := e.take(&a, name, value); err != nil {
			return nil, err
		}
	}
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

// take looks at one header.
func (e *Event) take(a *arena, name, value string) error {
	a.low = lower(a.low[:0], name)
	key := unsafe.String(unsafe.SliceData(a.low), len(a.low)) // of this call only
	switch {
	case key == contentType:
		e.DataContentType = a.add(value)
	case strings.HasPrefix(key, prefix):
		attribute := key[len(prefix):]
		if attribute == "datacontenttype" {
			return nil // Content-Type says it in binary mode
		}
		if e.required(attribute) == nil {
			attribute = a.add(attribute)
		}
		return e.set(attribute, unescape(a.add(value)), MaxAttributes)
	case transport(key, value):
		if len(e.Transport) >= MaxAttributes {
			return invalid("more than %d transport headers", MaxAttributes)
		}
		e.Transport = append(e.Transport, Attribute{a.add(key), a.add(value)})
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

// arena holds the strings of one event in few allocations.
type arena struct {
	buf []byte
	low []byte // scratch: a header's name in lower case
}

// add copies s. When the buffer is full a new one is begun: strings made
// before keep the old one alive.
func (a *arena) add(s string) string {
	if len(s) == 0 {
		return ""
	}
	if cap(a.buf)-len(a.buf) < len(s) {
		a.buf = make([]byte, 0, max(512, len(s)))
	}
	i := len(a.buf)
	a.buf = append(a.buf, s...)
	return unsafe.String(&a.buf[i], len(s))
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
