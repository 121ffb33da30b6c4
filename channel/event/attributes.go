package event

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Content types of CloudEvents over HTTP, v1.0.2, section 3.
const (
	StructuredContentType = "application/cloudevents+json"
	batchContentType      = "application/cloudevents-batch"
	structuredPrefix      = "application/cloudevents"
)

// MaxAttributes bounds the optional and extension attributes of one event that
// comes in over HTTP, and its transport headers as well.
const MaxAttributes = 128

// maxRecordAttributes leaves room for what is added to an event on its way, the
// extensions of a dead letter: what was let in must be readable from the log.
const maxRecordAttributes = MaxAttributes + 16

const (
	contentType = "content-type"
	prefix      = "ce-"
)

// header is the name of an attribute in binary mode. The usual ones cost no
// allocation.
func header(attribute string) string {
	switch attribute {
	case "subject":
		return "ce-subject"
	case "time":
		return "ce-time"
	case "dataref":
		return "ce-dataref"
	case "dataschema":
		return "ce-dataschema"
	case "schemaurl":
		return "ce-schemaurl"
	case "partitionkey":
		return "ce-partitionkey"
	case "traceparent":
		return "ce-traceparent"
	case "tracestate":
		return "ce-tracestate"
	case "sequence":
		return "ce-sequence"
	case "knativeerrordest":
		return "ce-knativeerrordest"
	case "knativeerrorcode":
		return "ce-knativeerrorcode"
	case "knativeerrordata":
		return "ce-knativeerrordata"
	}
	return prefix + attribute
}

// transport tells whether a header travels beside the event (CONTRACT 6). name
// is in lower case. What HTTP would not carry is left behind.
func transport(name, value string) bool {
	switch name {
	case "traceparent", "tracestate", "baggage", "x-request-id":
	default:
		if !strings.HasPrefix(name, "knative-") && !strings.HasPrefix(name, "x-b3-") || !token(name) {
			return false
		}
	}
	return fieldValue(value)
}

// set takes one attribute, decoded, in lower case. most bounds their number.
func (e *Event) set(name, value string, most int) error {
	if !utf8.ValidString(value) {
		return invalid("attribute %.32q is not in UTF-8", name)
	}
	if field := e.required(name); field != nil {
		return setRequired(field, name, value)
	}
	if err := validName(name); err != nil {
		return err
	}
	for i := range e.Attributes {
		if e.Attributes[i].Name == name {
			return invalid("attribute %s is given twice", name)
		}
	}
	if len(e.Attributes) >= most {
		return invalid("more than %d attributes", most)
	}
	if e.Attributes == nil {
		e.Attributes = make([]Attribute, 0, 4)
	}
	e.Attributes = append(e.Attributes, Attribute{name, value})
	return nil
}

func setRequired(field *string, name, value string) error {
	switch {
	case *field != "":
		return invalid("attribute %s is given twice", name)
	case value == "" && name == "datacontenttype":
		return nil // the same as absent
	case value == "":
		return invalid("attribute %s is missing or empty", name)
	}
	*field = value
	return nil
}

func (e *Event) required(name string) *string {
	switch name {
	case "specversion":
		return &e.SpecVersion
	case "id":
		return &e.ID
	case "source":
		return &e.Source
	case "type":
		return &e.Type
	case "datacontenttype":
		return &e.DataContentType
	}
	return nil
}

// required is name as a constant if it is that of a required attribute, else "".
func required(name string) string {
	switch name {
	case "specversion":
		return "specversion"
	case "id":
		return "id"
	case "source":
		return "source"
	case "type":
		return "type"
	}
	return ""
}

// validName applies CloudEvents 1.0.2, "Attribute naming convention". Longer
// names than the 20 characters it recommends are let through, up to a bound.
func validName(name string) error {
	const longest = 128
	if name == "" || len(name) > longest {
		return invalid("attribute name %.32q has %d characters: want 1 to %d", name, len(name), longest)
	}
	if name == "data" {
		return invalid("attribute name %q is reserved", name)
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return invalid("attribute name %q: want lower-case letters a-z and digits only", name)
		}
	}
	return nil
}

// validate checks what must be there once all attributes were set.
func (e *Event) validate() error {
	switch e.SpecVersion {
	case "1.0", "0.3":
	case "":
		return invalid("attribute specversion is missing or empty: want 1.0 or 0.3")
	default:
		return invalid("specversion %.32q: want 1.0 or 0.3", e.SpecVersion)
	}
	switch {
	case e.ID == "":
		return invalid("attribute id is missing or empty")
	case e.Source == "":
		return invalid("attribute source is missing or empty")
	case e.Type == "":
		return invalid("attribute type is missing or empty")
	}
	if !mediaType(e.DataContentType) {
		return invalid("attribute datacontenttype %.64q: want a media type in printable ASCII", e.DataContentType)
	}
	if t := e.Get("time"); t != "" {
		if _, err := time.Parse(time.RFC3339Nano, t); err != nil {
			return invalid("attribute time %.64q: want a timestamp as in RFC 3339", t)
		}
	}
	return nil
}

// mediaType tells whether a content type can be a header's value: from a JSON
// body anything may come. It does not judge whether the type is a good one.
func mediaType(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x7f {
			return false
		}
	}
	return fieldValue(s)
}

// fieldValue tells whether HTTP carries s unchanged as the value of a header
// (RFC 9110, section 5.5).
func fieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c == 0x7f || (c < ' ' && c != '\t') {
			return false
		}
	}
	return strings.Trim(s, " \t") == s
}

// token tells whether s can be the name of a header (RFC 9110, section 5.6.2).
// s is in lower case.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
