package wire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The versions of the protocol that this code speaks.
const (
	Version    = 1
	MinVersion = 1
)

// Names of headers, in lower case as they are sent.
const (
	SlipHeader    = "sidestep-slip"
	LimitsHeader  = "sidestep-limits"
	OutcomeHeader = "sidestep-outcome"
	// ClaimHeader tells a step that the event's dataref is ours, and the size:
	// "size=1048576".
	ClaimHeader = "sidestep-claim"
)

// Paths at a sidecar. A chain may be posted to any other path as well.
const (
	ChainPath     = "/"
	HandshakePath = "/.sidestep/handshake"
)

// Bounds on what is read.
const (
	// MaxSteps of one slip.
	MaxSteps = 64
	// MaxSlipBytes bounds the slip header's value. Together with an event's
	// attributes it must fit into what an HTTP server takes.
	MaxSlipBytes = 24 << 10
	// MaxLimitsBytes bounds the limits header's value.
	MaxLimitsBytes = 256
	// MaxOutcomeBytes bounds the outcome header's value.
	MaxOutcomeBytes = 8 << 10
	// MaxHandshakeBytes bounds a handshake's body.
	MaxHandshakeBytes = 64 << 10
	// MaxEntering bounds the second event in an answer, see Slip.Entering.
	MaxEntering = 64 << 10
	// MaxTimeout bounds every duration that is sent.
	MaxTimeout = 7 * 24 * time.Hour
)

// ErrVersion: the other side speaks a version of the protocol that this one does
// not. It is wrapped.
var ErrVersion = errors.New("protocol version")

// cutVersion takes the version from the front of a header's value.
func cutVersion(value, sep string) (rest string, version int, err error) {
	head, rest, _ := strings.Cut(value, sep)
	version, ok := number(head, 1<<16)
	if !ok {
		return "", 0, fmt.Errorf("%w: %.16q is none", ErrVersion, head)
	}
	if version < MinVersion || version > Version {
		return "", 0, fmt.Errorf("%w: %d is not spoken, want %d to %d", ErrVersion, version, MinVersion, Version)
	}
	return rest, version, nil
}

// number reads a decimal number of digits alone, up to most.
func number(s string, most int) (int, bool) {
	if s == "" || len(s) > 19 {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		d := int(s[i] - '0')
		if n > (most-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// micros reads a duration in microseconds.
func micros(s string) (time.Duration, bool) {
	n, ok := number(s, int(MaxTimeout/time.Microsecond))
	return time.Duration(n) * time.Microsecond, ok
}

// appendMicros writes what micros reads. What is longer or negative is cut.
func appendMicros(dst []byte, d time.Duration) []byte {
	return strconv.AppendInt(dst, min(max(d, 0), MaxTimeout).Microseconds(), 10)
}

// fields yields the "name=value" and "name" parts of a header's value.
func fields(value string) func(yield func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		for more := value != ""; more; {
			var part string
			part, value, more = strings.Cut(value, ";")
			name, v, _ := strings.Cut(strings.TrimSpace(part), "=")
			if name != "" && !yield(name, v) {
				return
			}
		}
	}
}
