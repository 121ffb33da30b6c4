package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// fromStructured decodes the JSON format (CloudEvents JSON v1.0.2). Attributes
// come from the body alone; e brings the transport headers.
func (e *Event) fromStructured(body []byte) (*Event, error) {
	media, _, _ := strings.Cut(e.DataContentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	switch {
	case strings.HasPrefix(media, batchContentType):
		return nil, ErrBatch
	case media != StructuredContentType:
		return nil, invalid("content type %.64q: want %s", media, StructuredContentType)
	}
	if !utf8.Valid(body) {
		return nil, invalid("body is not in UTF-8") // RFC 8259, section 8.1
	}
	out := &Event{Transport: e.Transport}
	var data, base64 json.RawMessage
	err := members(body, func(name string, value json.RawMessage) error {
		switch name {
		case "data":
			return once(&data, name, value)
		case "data_base64":
			return once(&base64, name, value)
		}
		text, present, err := attribute(name, value)
		if err != nil || !present {
			return err
		}
		return out.set(name, text, MaxAttributes)
	})
	if err != nil {
		return nil, err
	}
	if err := out.validate(); err != nil {
		return nil, err
	}
	if err := out.structuredData(data, base64); err != nil {
		return nil, err
	}
	return out, nil
}

func once(to *json.RawMessage, name string, value json.RawMessage) error {
	if *to != nil {
		return invalid("member %s is given twice", name)
	}
	*to = value
	return nil
}

// attribute reads a JSON value in the canonical string form of the CloudEvents
// type system. null is the same as absent.
func attribute(name string, raw json.RawMessage) (value string, present bool, err error) {
	switch c := raw[0]; {
	case c == 'n':
		return "", false, nil
	case c == '"':
		return text(raw), true, nil
	case c == '{' || c == '[':
		return "", false, invalid("attribute %.64s is a JSON object or array: want a string, a number or a boolean", name)
	default:
		return string(raw), true, nil
	}
}

func (e *Event) structuredData(data, b64 json.RawMessage) error {
	switch {
	case isNull(data) && isNull(b64):
		return nil
	case !isNull(data) && !isNull(b64):
		return invalid("both data and data_base64 are given")
	case !isNull(b64):
		return e.decodeBase64("data_base64", b64)
	case e.SpecVersion == "0.3" && strings.EqualFold(e.Get("datacontentencoding"), "base64"):
		e.Attributes = slices.DeleteFunc(e.Attributes, func(a Attribute) bool {
			return a.Name == "datacontentencoding"
		})
		return e.decodeBase64("data", data)
	}
	if e.DataContentType == "" {
		// Implied by the JSON format; other modes must say it.
		e.DataContentType = "application/json"
	}
	if data[0] == '"' && !isJSON(e.DataContentType) {
		s := text(data)
		if s != "" {
			e.Data = []byte(s)
		}
		return nil
	}
	e.Data = data
	return nil
}

func (e *Event) decodeBase64(name string, raw json.RawMessage) error {
	if raw[0] != '"' {
		return invalid("%s: want a string", name)
	}
	b, err := base64.StdEncoding.DecodeString(text(raw))
	if err != nil {
		return invalid("%s is not base64: %w", name, err)
	}
	if len(b) > 0 {
		e.Data = b
	}
	return nil
}

// AppendStructured appends e in the JSON format. Data that is not what its
// content type says is no error here: it travels in base64.
func AppendStructured(dst []byte, e *Event) []byte {
	dst = append(dst, '{')
	dst = member(dst, "specversion", e.SpecVersion)
	dst = member(append(dst, ','), "id", e.ID)
	dst = member(append(dst, ','), "source", e.Source)
	dst = member(append(dst, ','), "type", e.Type)
	if e.DataContentType != "" {
		dst = member(append(dst, ','), "datacontenttype", e.DataContentType)
	}
	for _, a := range e.Attributes {
		dst = member(append(dst, ','), a.Name, a.Value)
	}
	if e.Data != nil {
		dst = e.appendData(append(dst, ','))
	}
	return append(dst, '}')
}

func (e *Event) appendData(dst []byte) []byte {
	old := e.SpecVersion == "0.3"
	switch {
	case old && e.Get("datacontentencoding") != "":
		return member(dst, "data", string(e.Data)) // encoded by who made it
	case isJSON(e.DataContentType) && embeddable(e.Data):
		dst = append(dst, `"data":`...)
		return append(dst, bytes.TrimSpace(e.Data)...)
	case old:
		dst = append(dst, `"datacontentencoding":"base64","data":"`...)
	default:
		dst = append(dst, `"data_base64":"`...)
	}
	dst = base64.StdEncoding.AppendEncode(dst, e.Data)
	return append(dst, '"')
}

// embeddable tells whether data can be a JSON value within the envelope. null
// cannot: there it means no data.
func embeddable(data []byte) bool {
	return json.Valid(data) && utf8.Valid(data) && !isNull(bytes.TrimSpace(data))
}

func member(dst []byte, name, value string) []byte {
	return appendString(append(appendString(dst, name), ':'), value)
}
