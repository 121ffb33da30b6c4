package event

import (
	"bytes"
	"strings"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// internalPrefix begins the names of headers on the log that are Sidestep's own.
const internalPrefix = "sidestep-"

// ToRecord is e as a backend stores it: binary mode, as in the CloudEvents NATS
// protocol binding, with the transport headers and the extra ones given. Data
// is shared with e. The key is the partitionkey extension.
func ToRecord(e *Event, extra ...backend.Header) backend.Record {
	h := make([]backend.Header, 0, 5+len(e.Attributes)+len(e.Transport)+len(extra))
	AppendHTTPHeader(func(name, value string) {
		h = append(h, backend.Header{Name: name, Value: value})
	}, e)
	return backend.Record{Key: e.Get("partitionkey"), Header: append(h, extra...), Data: e.Data}
}

// RecordSize is ToRecord(e).Size().
func RecordSize(e *Event) int {
	n := len(e.Data) + len(e.Get("partitionkey"))
	AppendHTTPHeader(func(name, value string) { n += len(name) + len(value) + 4 }, e)
	return n
}

// FromRecord decodes what a backend stored. Others may write to the log as well:
// names come in any case, datacontenttype as an attribute (so the CloudEvents SDK
// does it on NATS), or all of the event in the data (structured mode), with its
// content type or, as in the NATS binding before 1.0.3, with no header at all. The
// Event shares r's strings and data. Errors are those of FromHTTP.
func FromRecord(r *backend.Record) (*Event, error) {
	e := &Event{Attributes: make([]Attribute, 0, max(4, len(r.Header)-5))}
	for i := range r.Header {
		if err := e.keep(r.Header[i].Name, r.Header[i].Value); err != nil {
			return nil, err
		}
	}
	if e.SpecVersion == "" && !e.named() {
		if !e.inData(r.Data) {
			return nil, ErrNotCloudEvent
		}
		e.DataContentType = StructuredContentType
		return e.fromStructured(r.Data)
	}
	if err := e.validate(); err != nil {
		return nil, err
	}
	if len(r.Data) > 0 {
		e.Data = r.Data
	}
	return e, nil
}

// inData tells whether a record without attributes is in structured mode.
func (e *Event) inData(data []byte) bool {
	if e.DataContentType != "" {
		return hasMediaType(e.DataContentType, StructuredContentType)
	}
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && data[0] == '{'
}

// keep looks at one header of a record.
func (e *Event) keep(name, value string) error {
	name = strings.ToLower(name) // returns name itself if it is
	switch {
	case name == contentType:
		e.DataContentType = value
	case strings.HasPrefix(name, prefix):
		if name == "ce-datacontenttype" {
			if e.DataContentType == "" {
				e.DataContentType = value
			}
			return nil
		}
		return e.set(name[len(prefix):], unescape(value), maxRecordAttributes)
	case strings.HasPrefix(name, internalPrefix):
	case transport(name, value):
		e.Transport = append(e.Transport, Attribute{name, value})
	}
	return nil
}
