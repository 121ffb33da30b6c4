package event

import (
	"iter"
	"testing"
	"unsafe"
)

// pairs yields names and values given in turn.
func pairs(kv ...string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for i := 0; i+1 < len(kv); i += 2 {
			if !yield(kv[i], kv[i+1]) {
				return
			}
		}
	}
}

func fields(kv ...string) (f []Attribute) {
	for name, value := range pairs(kv...) {
		f = append(f, Attribute{name, value})
	}
	return f
}

// binary is a message with the required attributes, and kv.
func binary(kv ...string) iter.Seq2[string, string] {
	return pairs(append([]string{
		"ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t",
	}, kv...)...)
}

// structured is the header of a message in structured mode.
func structured(kv ...string) iter.Seq2[string, string] {
	return pairs(append([]string{"Content-Type", StructuredContentType}, kv...)...)
}

func mustDecode(t testing.TB, header iter.Seq2[string, string], body string) *Event {
	t.Helper()
	e, err := FromHTTP(header, []byte(body))
	if err != nil {
		t.Fatalf("FromHTTP: %v", err)
	}
	return e
}

// resend sends e in binary mode and decodes what arrives.
func resend(t testing.TB, e *Event) *Event {
	t.Helper()
	var kv []string
	AppendHTTPHeader(func(name, value string) { kv = append(kv, name, value) }, e)
	return mustDecode(t, pairs(kv...), string(e.Data))
}

// wantEqual compares events, attributes in any order.
func wantEqual(t testing.TB, got, want *Event) {
	t.Helper()
	type core struct{ version, id, source, typ, contentType, data string }
	g := core{got.SpecVersion, got.ID, got.Source, got.Type, got.DataContentType, string(got.Data)}
	w := core{want.SpecVersion, want.ID, want.Source, want.Type, want.DataContentType, string(want.Data)}
	if g != w {
		t.Errorf("got  %+q\nwant %+q", g, w)
	}
	if (got.Data == nil) != (want.Data == nil) {
		t.Errorf("data is nil: got %t, want %t", got.Data == nil, want.Data == nil)
	}
	wantSet(t, "attributes", got.Attributes, want.Attributes)
	wantSet(t, "transport", got.Transport, want.Transport)
}

func wantSet(t testing.TB, what string, got, want []Attribute) {
	t.Helper()
	left := make(map[Attribute]int)
	for _, a := range want {
		left[a]++
	}
	for _, a := range got {
		left[a]--
	}
	for a, n := range left {
		if n != 0 {
			t.Errorf("%s: got %q, want %q (differ in %q)", what, got, want, a)
			return
		}
	}
}

func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
