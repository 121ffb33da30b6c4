package event

import (
	bits "encoding/binary"
	"encoding/hex"
	"slices"
)

// Names of transport headers: W3C Trace Context and Baggage.
const (
	traceParent = "traceparent"
	traceState  = "tracestate"
	baggage     = "baggage"
)

// Trace is a trace context: what traceparent carries (W3C Trace Context,
// level 1, section 3.2).
type Trace struct {
	TraceID [16]byte
	SpanID  [8]byte
	// Flags: bit 0 tells that the trace is recorded.
	Flags byte
}

// Sampled tells whether the trace is recorded.
func (t Trace) Sampled() bool { return t.Flags&1 != 0 }

// Next is the context of the hop that follows t's within the same pod. Both ends
// of an exchange work it out: the sidecar to hand it to the step, and the
// dispatcher to make its span from what the answer tells.
func (t Trace) Next() Trace {
	// splitmix64 visits every number once before it repeats one.
	x := bits.BigEndian.Uint64(t.SpanID[:]) + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	bits.BigEndian.PutUint64(t.SpanID[:], max(x, 1)) // 0 is no ID
	return t
}

// String is the value of traceparent.
func (t Trace) String() string {
	b := make([]byte, 0, 55)
	b = hex.AppendEncode(append(b, "00-"...), t.TraceID[:])
	b = hex.AppendEncode(append(b, '-'), t.SpanID[:])
	return string(hex.AppendEncode(append(b, '-'), []byte{t.Flags}))
}

// Trace is the trace context that e travels with, or else the one in its
// attributes (the extension for distributed tracing); false if it has none that
// can be read.
func (e *Event) Trace() (Trace, bool) {
	for i := range e.Transport {
		if e.Transport[i].Name == traceParent {
			return parseTrace(e.Transport[i].Value)
		}
	}
	return parseTrace(e.Get(traceParent))
}

// parseTrace reads a traceparent. Of a later version it takes what this one has,
// as the specification asks for.
func parseTrace(s string) (t Trace, ok bool) {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return t, false
	}
	var version, flags [1]byte
	if !fromHex(version[:], s[:2]) || !fromHex(t.TraceID[:], s[3:35]) ||
		!fromHex(t.SpanID[:], s[36:52]) || !fromHex(flags[:], s[53:55]) {
		return t, false
	}
	t.Flags = flags[0]
	switch {
	case version[0] == 0xff, version[0] == 0 && len(s) > 55, len(s) > 55 && s[55] != '-',
		t.TraceID == [16]byte{}, t.SpanID == [8]byte{}:
		return t, false
	}
	return t, true
}

// fromHex fills dst from lower-case digits, the only ones that are allowed.
func fromHex(dst []byte, s string) bool {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'F' {
			return false
		}
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

// WithTrace returns a copy that travels with t. All else is shared with e.
func (e *Event) WithTrace(t Trace) *Event {
	c := *e
	c.Transport = make([]Attribute, 0, len(e.Transport)+1)
	c.Transport = append(c.Transport, Attribute{traceParent, t.String()})
	for _, a := range e.Transport {
		if a.Name != traceParent {
			c.Transport = append(c.Transport, a)
		}
	}
	return &c
}

// Continue has e, an answer that nobody has seen yet, continue the trace of the
// event that led to it, unless it says which trace it belongs to: most steps do
// not look at headers, and the trace is not to end with them.
func (e *Event) Continue(from *Event) {
	if len(from.Transport) == 0 || e.travelsWith(traceParent) {
		return
	}
	for _, a := range from.Transport {
		switch a.Name {
		case traceParent, traceState, baggage:
			if !e.travelsWith(a.Name) && len(e.Transport) < MaxAttributes {
				e.Transport = append(e.Transport, a)
			}
		}
	}
}

func (e *Event) travelsWith(name string) bool {
	return slices.ContainsFunc(e.Transport, func(a Attribute) bool { return a.Name == name })
}
