package natsbackend

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/percent"
)

// A record travels as the CloudEvents NATS protocol binding says, in binary
// mode: the headers of the message are the record's, its payload the data. To
// these come
//
//	Nats-Msg-Id    for deduplication, if the record has a Dedup
//	sidestep-key   the key, percent-encoded, unless ce-partitionkey says it
//
// The header block is encoded and read here rather than by the client library,
// which keeps headers in a map: that loses their order and costs an allocation
// for each of them on every delivery. See wire for how it gets past the library.
const (
	headerLine   = "NATS/1.0\r\n"
	newline      = "\r\n"
	separator    = ": "
	idHeader     = "Nats-Msg-Id"
	keyHeader    = "sidestep-key"
	keyAttribute = "ce-partitionkey"
)

// wireOverhead is what a message may need beyond Record.Size: the header line,
// the message id, the key's header; packed, the lengths beyond the 4 bytes that
// Size allows for each entry (only entries above 16 KiB need more).
const wireOverhead = 4096

// maxHeaders bounds the headers of a record in the binding, in bytes. JetStream
// takes 64 KiB, the message id included.
const maxHeaders = 48 << 10

// appendMessage appends r as a message of the log i: a block of headers, of the
// length that is returned, and the payload.
func appendMessage(dst []byte, i backend.Incarnation, r *backend.Record) (message []byte, headers int) {
	bound := expressible(r)
	if !bound && r.Dedup == "" {
		return appendPacked(dst, r), 0
	}
	start := len(dst)
	dst = append(dst, headerLine...)
	if r.Dedup != "" {
		// Logs that share a stream share its memory of ids.
		dst = append(append(dst, idHeader...), separator...)
		dst = append(append(dst, i...), '.')
		dst = append(appendEscaped(dst, r.Dedup), newline...)
	}
	if bound {
		dst = appendHeaders(dst, r)
	}
	dst = append(dst, newline...)
	headers = len(dst) - start
	if bound {
		return append(dst, r.Data...), headers
	}
	return appendPacked(dst, r), headers
}

func appendHeaders(dst []byte, r *backend.Record) []byte {
	key := "" // what a reader would take for the key
	for i := range r.Header {
		h := &r.Header[i]
		if len(h.Name) == len(keyAttribute) && strings.EqualFold(h.Name, keyAttribute) {
			key = h.Value
		}
		dst = append(append(dst, h.Name...), separator...)
		dst = append(append(dst, h.Value...), newline...)
	}
	if key != r.Key || strings.IndexByte(key, '%') >= 0 {
		dst = append(append(dst, keyHeader...), separator...)
		dst = append(appendEscaped(dst, r.Key), newline...)
	}
	return dst
}

// expressible tells whether the binding gives back r as it is. If not, r goes
// packed: when its headers are too large or not such as the contract wants, when
// the broker or a client library would take one of them for its own, and when
// there are none, since that is how a packed record is told.
func expressible(r *backend.Record) bool {
	if len(r.Header) == 0 && r.Key == "" {
		return false
	}
	size := 3 * len(r.Key)
	for i := range r.Header {
		h := &r.Header[i]
		if size += len(h.Name) + len(h.Value) + len(separator) + len(newline); size > maxHeaders {
			return false
		}
		if !plainName(h.Name) || !plainValue(h.Value) {
			return false
		}
	}
	return size <= maxHeaders
}

// plainName: a token (RFC 9110) that means nothing to NATS, nor to decodeMessage.
func plainName(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if !tokens[s[i]] {
			return false
		}
	}
	switch s[0] | 0x20 {
	case 'n':
		return !brokers(s)
	case 's':
		return !strings.EqualFold(s, keyHeader) && !strings.EqualFold(s, "status")
	case 'd':
		return !strings.EqualFold(s, "description")
	}
	return true
}

// brokers tells whether a header is between the broker and its clients.
func brokers(name string) bool {
	const prefix = "nats-"
	return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
}

func plainValue(s string) bool {
	if s == "" {
		return true
	}
	return !blank(s[0]) && !blank(s[len(s)-1]) &&
		strings.IndexByte(s, '\r') < 0 && strings.IndexByte(s, '\n') < 0 && strings.IndexByte(s, 0) < 0
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// tokens are the characters of a token (RFC 9110, 5.6.2).
var tokens = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' ||
			strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0
	}
	return t
}()

// appendEscaped appends s percent-encoded where it is not visible ASCII, for
// percent.Decode.
func appendEscaped(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && c != '%' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}

// decodeMessage reads a message into r; headed: p begins with a header block.
// r.Data shares p's memory; the key and the headers are parts of one copy. A
// message that others wrote may be anything: it is read as it is.
func decodeMessage(p []byte, headed bool, r *backend.Record) error {
	if !headed {
		return decodePayload(p, r)
	}
	end := bytes.Index(p, []byte("\r\n\r\n"))
	first := bytes.IndexByte(p, '\n') + 1
	if end < 0 {
		return fmt.Errorf("header block without an end: %w", errMalformed)
	}
	data := p[end+4 : len(p) : len(p)]
	if end < first { // there is no header
		return decodePayload(data, r)
	}
	bound := decodeHeaders(string(p[first:end+2]), r)
	if !bound {
		return decodePayload(data, r)
	}
	r.Data = data
	return nil
}

// decodeHeaders reads lines; false: none is a record's.
func decodeHeaders(lines string, r *backend.Record) bool {
	r.Header = make([]backend.Header, 0, strings.Count(lines, "\n"))
	var key, attribute string
	bound, keyed := false, false
	for lines != "" {
		var line string
		line, lines, _ = strings.Cut(lines, "\n")
		line = strings.TrimSuffix(line, "\r")
		name, value, ok := strings.Cut(line, ":")
		for value != "" && blank(value[0]) {
			value = value[1:]
		}
		switch {
		// The library of another client would have refused a value like that.
		case !ok, name == "", strings.IndexByte(line, '\r') >= 0, strings.IndexByte(line, 0) >= 0, brokers(name):
			continue
		case name == keyHeader:
			key, keyed = percent.Decode(value), true
		default:
			if len(name) == len(keyAttribute) && strings.EqualFold(name, keyAttribute) {
				attribute = value
			}
			r.Header = append(r.Header, backend.Header{Name: name, Value: value})
		}
		bound = true
	}
	if !keyed {
		key = percent.Decode(attribute)
	}
	r.Key = key
	if len(r.Header) == 0 {
		r.Header = nil
	}
	return bound
}

// decodePayload reads what came without headers of a record: a packed one, or an
// event of somebody else in structured mode.
func decodePayload(p []byte, r *backend.Record) error {
	if len(p) > 0 && p[0] == packedVersion {
		return decodePacked(p, r)
	}
	*r = backend.Record{Data: p}
	if len(p) > 0 && p[0] == '{' {
		var event struct {
			Key string `json:"partitionkey"`
		}
		if json.Unmarshal(p, &event) == nil {
			r.Key = event.Key
		}
	}
	return nil
}
