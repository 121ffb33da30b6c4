package event

import (
	"strings"

	"github.com/sidestep-dev/sidestep/channel/backend/percent"
)

// Values of attributes in headers are percent-encoded: space, double quote,
// percent, and everything outside the printable ASCII characters (CloudEvents
// HTTP binding v1.0.2, section 3.1.3.2).

const upperHex = "0123456789ABCDEF"

func plain(c byte) bool { return c > ' ' && c < 0x7f && c != '"' && c != '%' }

func escapes(s string) (n int) {
	for i := range len(s) {
		if !plain(s[i]) {
			n++
		}
	}
	return n
}

func escape(s string) string {
	n := escapes(s)
	if n == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if c := s[i]; plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return string(b)
}

// unescape undoes double quotes with backslashes, which older senders use, and
// then one round of percent-encoding.
func unescape(s string) string {
	return percent.Decode(unquote(s))
}

func unquote(s string) string {
	if !quoted(s) {
		return s
	}
	s = s[1 : len(s)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++ // there is a next one: s was quoted
		}
		b = append(b, s[i])
	}
	return string(b)
}

// quoted tells whether s is one quoted-string (RFC 7230, section 3.2.6) and not
// a text that happens to begin and end with a quote.
func quoted(s string) bool {
	if len(s) < 2 || s[0] != '"' {
		return false
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i == len(s)-1
		}
	}
	return false
}
