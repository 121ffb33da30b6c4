package event

import (
	"bytes"
	"encoding/json"
	"strings"
)

// members calls f for each member of the JSON object in body, in order. Values
// alias body. encoding/json judges the syntax; its maps would lose the order and
// hide members that come twice, and its Decoder costs ten allocations a member.
func members(body []byte, f func(name string, value json.RawMessage) error) error {
	if !json.Valid(body) {
		var v json.RawMessage
		return invalid("body is not a JSON object: %w", json.Unmarshal(body, &v))
	}
	s := scanner{body, 0}
	if s.next() != '{' {
		return invalid("body is JSON, but not an object")
	}
	s.at++
	for s.next() != '}' {
		if s.body[s.at] == ',' {
			s.at++
			s.next()
		}
		name := text(s.value())
		s.next()
		s.at++ // the colon
		s.next()
		if err := f(name, s.value()); err != nil {
			return err
		}
	}
	return nil
}

// scanner walks through JSON that is known to be valid.
type scanner struct {
	body []byte
	at   int
}

// next skips white space and returns the byte behind it.
func (s *scanner) next() byte {
	for {
		switch c := s.body[s.at]; c {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return c
		}
	}
}

// value returns the value at the scanner, and moves behind it.
func (s *scanner) value() json.RawMessage {
	start, depth := s.at, 0
	for {
		switch s.body[s.at] {
		case '"':
			s.skipString()
		case '{', '[':
			depth++
			s.at++
			continue
		case '}', ']':
			depth--
			s.at++
		default:
			s.skipScalar()
		}
		if depth == 0 {
			return s.body[start:s.at:s.at]
		}
	}
}

func (s *scanner) skipString() {
	for s.at++; s.body[s.at] != '"'; s.at++ {
		if s.body[s.at] == '\\' {
			s.at++
		}
	}
	s.at++
}

// skipScalar moves to the end of a number or a word; within an array or object,
// over what separates values as well.
func (s *scanner) skipScalar() {
	for s.at++; s.at < len(s.body); s.at++ {
		switch s.body[s.at] {
		case '"', '{', '[', '}', ']', ',', ' ', '\t', '\r', '\n':
			return
		}
	}
}

// text is the value of a JSON string. It does not alias raw.
func text(raw json.RawMessage) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	_ = json.Unmarshal(raw, &s) // it is valid
	return s
}

// appendString appends s as a JSON string.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || strings.IndexByte(`"\<>&`, c) >= 0 {
			quoted, _ := json.Marshal(s) // a string cannot fail
			return append(dst, quoted...)
		}
	}
	dst = append(append(dst, '"'), s...)
	return append(dst, '"')
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// isJSON tells whether a media type is JSON (RFC 6839 for the suffix).
func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json")
}
