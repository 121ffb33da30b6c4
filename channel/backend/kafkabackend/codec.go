package kafkabackend

import (
	"encoding/binary"
	"strings"
	"unsafe"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// A record travels as the CloudEvents Kafka protocol binding says, binary mode:
// key, value, and a header for each attribute.
//
//	backend.Record                     Kafka
//	ce-name: percent-encoded  <-->  ce_name: UTF-8     (what is encoded in the way the
//	                                                    HTTP binding says)
//	name: value               <-->  name: value        (content-type and all others)
//	ce_name, :name, ce-name   <-->  :name: value       (what the first two lines would
//	   encoded otherwise                                confuse; no token has a colon)
//
// Every record comes back byte for byte. Records of other clients come back in
// terms of the first two lines.

// appendRecord appends r to a batch, as its record number delta.
func appendRecord(dst []byte, delta int, r *backend.Record) []byte {
	n := 1 + 1 + varintSize(int64(delta)) + keySize(r.Key) +
		varintSize(int64(len(r.Data))) + len(r.Data) + varintSize(int64(len(r.Header)))
	for i := range r.Header {
		n += headerSize(&r.Header[i])
	}
	dst = binary.AppendVarint(dst, int64(n))
	dst = append(dst, 0, 0) // attributes, timestamp delta
	dst = binary.AppendVarint(dst, int64(delta))
	if r.Key == "" {
		dst = binary.AppendVarint(dst, -1)
	} else {
		dst = appendString(dst, r.Key)
	}
	dst = binary.AppendVarint(dst, int64(len(r.Data)))
	dst = append(dst, r.Data...)
	dst = binary.AppendVarint(dst, int64(len(r.Header)))
	for i := range r.Header {
		dst = appendHeader(dst, &r.Header[i])
	}
	return dst
}

func keySize(key string) int {
	if key == "" {
		return 1
	}
	return varintSize(int64(len(key))) + len(key)
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendVarint(dst, int64(len(s)))
	return append(dst, s...)
}

// manner in which a header travels.
type manner int

const (
	asIs      manner = iota
	attribute        // ce-name becomes ce_name
	colon            // name becomes :name
)

func mannerOf(h *backend.Header) manner {
	switch {
	case len(h.Name) > 3 && strings.HasPrefix(h.Name, "ce-") && canonical(h.Value):
		return attribute
	case strings.HasPrefix(h.Name, "ce-"), strings.HasPrefix(h.Name, "ce_"), strings.HasPrefix(h.Name, ":"):
		return colon
	}
	return asIs
}

func headerSize(h *backend.Header) int {
	name, value := len(h.Name), len(h.Value)
	switch mannerOf(h) {
	case attribute:
		value -= 2 * strings.Count(h.Value, "%")
	case colon:
		name++
	case asIs:
	}
	return varintSize(int64(name)) + name + varintSize(int64(value)) + value
}

func appendHeader(dst []byte, h *backend.Header) []byte {
	switch mannerOf(h) {
	case attribute:
		dst = binary.AppendVarint(dst, int64(len(h.Name)))
		dst = append(dst, "ce_"...)
		dst = append(dst, h.Name[3:]...)
		dst = binary.AppendVarint(dst, int64(len(h.Value)-2*strings.Count(h.Value, "%")))
		return appendUnescaped(dst, h.Value)
	case colon:
		dst = binary.AppendVarint(dst, int64(len(h.Name)+1))
		dst = append(dst, ':')
		dst = append(dst, h.Name...)
	case asIs:
		dst = appendString(dst, h.Name)
	}
	return appendString(dst, h.Value)
}

// plain bytes are not percent-encoded in a header's value (CloudEvents HTTP
// binding v1.0.2, section 3.1.3.2).
func plain(c byte) bool { return c > ' ' && c < 0x7f && c != '"' && c != '%' }

// canonical: decoding s and encoding it again gives s.
func canonical(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			if !plain(s[i]) {
				return false
			}
			continue
		}
		if i+2 >= len(s) {
			return false
		}
		hi, lo := digit(s[i+1]), digit(s[i+2])
		if hi < 0 || lo < 0 || plain(byte(hi<<4|lo)) {
			return false
		}
		i += 2
	}
	return true
}

const hex = "0123456789ABCDEF"

func digit(c byte) int { return strings.IndexByte(hex, c) }

func appendUnescaped(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			c = byte(digit(s[i+1])<<4 | digit(s[i+2]))
			i += 2
		}
		dst = append(dst, c)
	}
	return dst
}

func appendEscaped(dst, s []byte) []byte {
	for _, c := range s {
		if plain(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}

// decodeRecord copies w into r, in few allocations: one for the key and the
// headers' text, one for the headers, one for the data.
func decodeRecord(w *wireRecord, r *backend.Record) {
	n := len(w.key)
	for _, h := range w.headers {
		n += len(h.name) + len(h.value)
		if isAttribute(h.name) {
			for _, c := range h.value {
				if !plain(c) {
					n += 2
				}
			}
		}
	}
	text := make([]byte, 0, n)
	part := func(from int) string {
		if from == len(text) {
			return ""
		}
		return unsafe.String(&text[from], len(text)-from) // text is never written again
	}
	text = append(text, w.key...)
	r.Key = part(0)
	r.Header = nil
	if len(w.headers) > 0 {
		r.Header = make([]backend.Header, len(w.headers))
	}
	for i, h := range w.headers {
		from := len(text)
		switch {
		case isAttribute(h.name):
			text = append(text, "ce-"...)
			text = append(text, h.name[3:]...)
			r.Header[i].Name = part(from)
			from = len(text)
			text = appendEscaped(text, h.value)
		default:
			name := h.name
			if len(name) > 0 && name[0] == ':' {
				name = name[1:]
			}
			text = append(text, name...)
			r.Header[i].Name = part(from)
			from = len(text)
			text = append(text, h.value...)
		}
		r.Header[i].Value = part(from)
	}
	r.Data = append([]byte(nil), w.value...)
}

func isAttribute(name []byte) bool { return len(name) > 3 && string(name[:3]) == "ce_" }
