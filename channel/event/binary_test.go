package event

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestBinaryModeIsDecoded(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		header []string
		body   string
		want   Event
	}{
		{
			name:   "required attributes only",
			header: []string{"ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t"},
			want:   Event{SpecVersion: "1.0", ID: "1", Source: "/s", Type: "t"},
		},
		{
			name:   "names in any case",
			header: []string{"Ce-Specversion", "1.0", "CE-ID", "1", "cE-SoUrCe", "/s", "Ce-Type", "t", "CE-FOO1", "Bar", "CONTENT-TYPE", "Text/Plain"},
			body:   "x",
			want: Event{
				SpecVersion: "1.0", ID: "1", Source: "/s", Type: "t", DataContentType: "Text/Plain",
				Attributes: []Attribute{{"foo1", "Bar"}}, Data: []byte("x"),
			},
		},
		{
			name:   "version 0.3",
			header: []string{"ce-specversion", "0.3", "ce-id", "1", "ce-source", "/s", "ce-type", "t", "ce-schemaurl", "/schema"},
			want: Event{
				SpecVersion: "0.3", ID: "1", Source: "/s", Type: "t",
				Attributes: []Attribute{{"schemaurl", "/schema"}},
			},
		},
		{
			name: "percent-encoding and quotes are undone",
			header: []string{
				"ce-specversion", "1.0", "ce-id", "a%20b", "ce-source", `"/a b"`, "ce-type", "Euro%20%E2%82%AC%20%F0%9F%98%80", "ce-foo", `"a\"b\\c%41"`,
			},
			want: Event{
				SpecVersion: "1.0", ID: "a b", Source: "/a b", Type: "Euro € 😀",
				Attributes: []Attribute{{"foo", `a"b\cA`}},
			},
		},
		{
			name:   "Content-Type wins over ce-datacontenttype",
			header: []string{"ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t", "ce-datacontenttype", "a/b", "content-type", "c/d"},
			want:   Event{SpecVersion: "1.0", ID: "1", Source: "/s", Type: "t", DataContentType: "c/d"},
		},
		{
			name:   "data is opaque",
			header: []string{"ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t", "content-type", "application/json"},
			body:   "\xff\x00 not JSON",
			want:   Event{SpecVersion: "1.0", ID: "1", Source: "/s", Type: "t", DataContentType: "application/json", Data: []byte("\xff\x00 not JSON")},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := mustDecode(t, pairs(tt.header...), tt.body)
			wantEqual(t, e, &tt.want)
			wantEqual(t, resend(t, e), &tt.want)
		})
	}
}

func TestHeadersBesideTheEvent(t *testing.T) {
	t.Parallel()
	passed := []string{
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"tracestate", "a=1", "tracestate", "b=2", "Baggage", "k=v", "X-Request-Id", "r", "Knative-Foo", "f", "X-B3-TraceId", "b",
	}
	dropped := []string{
		"Authorization", "Bearer secret", "Sidestep-Tried", "x", "sidestep-claim", "x", "Cookie", "c", "Host", "h", "Prefer", "reply",
		"Kn-Namespace", "n", "Content-Length", "1", "X-B3", "no", "Forwarded", "f", "knative-a b", "not a token", "knative-a", "cr\rlf",
	}
	want := []Attribute{
		{"traceparent", passed[1]},
		{"tracestate", "a=1"},
		{"tracestate", "b=2"},
		{"baggage", "k=v"},
		{"x-request-id", "r"},
		{"knative-foo", "f"},
		{"x-b3-traceid", "b"},
	}
	t.Run("binary", func(t *testing.T) {
		t.Parallel()
		e := mustDecode(t, binary(append(passed, dropped...)...), "")
		wantSet(t, "transport", e.Transport, want)
		wantSet(t, "attributes", e.Attributes, nil)
		wantEqual(t, resend(t, e), e)
	})
	t.Run("structured", func(t *testing.T) {
		t.Parallel()
		body := `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`
		e := mustDecode(t, structured(append(passed, dropped...)...), body)
		wantSet(t, "transport", e.Transport, want)
		wantSet(t, "attributes", e.Attributes, nil)
	})
}

func TestWhatIsNoEventIsRefused(t *testing.T) {
	t.Parallel()
	var many, wide []string
	for i := range MaxAttributes + 1 {
		many = append(many, fmt.Sprintf("ce-a%d", i), "v")
		wide = append(wide, fmt.Sprintf("knative-a%d", i), "v")
	}
	const ok = `{"specversion":"1.0","id":"1","source":"/s","type":"t"`
	tests := []struct {
		name   string
		header []string
		bare   bool // header is all there is
		body   string
		want   error
		text   string
	}{
		{name: "nothing", bare: true, want: ErrNotCloudEvent},
		{name: "plain JSON", bare: true, header: []string{"content-type", "application/json"}, body: "{}", want: ErrNotCloudEvent},
		{name: "transport headers alone", bare: true, header: []string{"traceparent", "x"}, want: ErrNotCloudEvent},
		{name: "batch", bare: true, header: []string{"content-type", "application/cloudevents-batch+json"}, body: "[]", want: ErrBatch},
		{name: "batch in capitals", bare: true, header: []string{"content-type", "Application/CloudEvents-Batch+JSON; charset=utf-8"}, want: ErrBatch},
		{name: "unknown format", bare: true, header: []string{"content-type", "application/cloudevents+avro"}, want: ErrInvalid, text: "content type"},
		{name: "no specversion", bare: true, header: []string{"ce-id", "1", "ce-source", "/s", "ce-type", "t"}, want: ErrInvalid, text: "specversion"},
		{name: "no id", bare: true, header: []string{"ce-specversion", "1.0", "ce-source", "/s", "ce-type", "t"}, want: ErrInvalid, text: "id"},
		{name: "no source", bare: true, header: []string{"ce-specversion", "1.0", "ce-id", "1", "ce-type", "t"}, want: ErrInvalid, text: "source"},
		{name: "no type", bare: true, header: []string{"ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s"}, want: ErrInvalid, text: "type"},
		{name: "empty id", bare: true, header: []string{"ce-specversion", "1.0", "ce-id", "", "ce-source", "/s", "ce-type", "t"}, want: ErrInvalid, text: "id"},
		{name: "specversion 2.0", bare: true, header: []string{"ce-specversion", "2.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t"}, want: ErrInvalid, text: "want 1.0 or 0.3"},
		{name: "specversion 1.0.2", bare: true, header: []string{"ce-specversion", "1.0.2", "ce-id", "1", "ce-source", "/s", "ce-type", "t"}, want: ErrInvalid, text: "want 1.0 or 0.3"},
		{name: "an extension alone", bare: true, header: []string{"ce-foo", "1"}, want: ErrInvalid, text: "specversion"},
		{name: "id twice", header: []string{"Ce-Id", "2"}, want: ErrInvalid, text: "twice"},
		{name: "extension twice", header: []string{"ce-foo", "1", "CE-Foo", "1"}, want: ErrInvalid, text: "twice"},
		{name: "extension with a dash", header: []string{"ce-foo-bar", "1"}, want: ErrInvalid, text: "letters"},
		{name: "extension with an underscore", header: []string{"ce-data_base64", "1"}, want: ErrInvalid, text: "letters"},
		{name: "extension data", header: []string{"ce-data", "1"}, want: ErrInvalid, text: "reserved"},
		{name: "extension without a name", header: []string{"ce-", "1"}, want: ErrInvalid, text: "0 characters"},
		{name: "extension with a long name", header: []string{"ce-" + strings.Repeat("a", 129), "1"}, want: ErrInvalid, text: "129 characters"},
		{name: "too many attributes", header: many, want: ErrInvalid, text: "128"},
		{name: "too many transport headers", header: wide, want: ErrInvalid, text: "128"},
		{name: "time", header: []string{"ce-time", "yesterday"}, want: ErrInvalid, text: "RFC 3339"},
		{name: "not UTF-8", header: []string{"ce-foo", "caf\xe9"}, want: ErrInvalid, text: "UTF-8"},
		{name: "percent-encoded, not UTF-8", header: []string{"ce-foo", "caf%E9"}, want: ErrInvalid, text: "UTF-8"},
		{name: "content type that splits a header", header: []string{"content-type", "a/b\r\nx: y"}, want: ErrInvalid, text: "datacontenttype"},
		{name: "structured, no JSON", bare: true, header: []string{"content-type", StructuredContentType}, body: "{", want: ErrInvalid, text: "JSON"},
		{name: "structured, empty", bare: true, header: []string{"content-type", StructuredContentType}, want: ErrInvalid, text: "JSON"},
		{name: "structured, array", bare: true, header: []string{"content-type", StructuredContentType}, body: "[]", want: ErrInvalid, text: "JSON"},
		{name: "structured, null", bare: true, header: []string{"content-type", StructuredContentType}, body: "null", want: ErrInvalid, text: "JSON"},
		{name: "structured, more than an object", bare: true, header: []string{"content-type", StructuredContentType}, body: ok + "}{}", want: ErrInvalid, text: "after top-level"},
		{name: "structured, trailing comma", bare: true, header: []string{"content-type", StructuredContentType}, body: ok + ",}", want: ErrInvalid, text: "JSON"},
		{name: "structured, cut", bare: true, header: []string{"content-type", StructuredContentType}, body: ok, want: ErrInvalid, text: "JSON"},
		{name: "structured, id twice", bare: true, header: []string{"content-type", StructuredContentType}, body: ok + `,"id":"2"}`, want: ErrInvalid, text: "twice"},
		{name: "structured, extension twice", bare: true, header: []string{"content-type", StructuredContentType}, body: ok + `,"a":"1","\u0061":"2"}`, want: ErrInvalid, text: "twice"},
		{name: "structured, data twice", bare: true, header: []string{"content-type", StructuredContentType}, body: ok + `,"data":1,"data":1}`, want: ErrInvalid, text: "twice"},
		{name: "structured, attribute is an object", bare: true, header: []string{"content-type", StructuredContentType}, body: ok + `,"foo":{}}`, want: ErrInvalid, text: "object or array"},
		{name: "structured, name in capitals", bare: true, header: []string{"content-type", StructuredContentType}, body: ok + `,"Foo":"x"}`, want: ErrInvalid, text: "lower-case"},
		{name: "structured, both data", bare: true, header: []string{"content-type", StructuredContentType}, body: ok + `,"data":1,"data_base64":"YQ=="}`, want: ErrInvalid, text: "both"},
		{name: "structured, not base64", bare: true, header: []string{"content-type", StructuredContentType}, body: ok + `,"data_base64":"%"}`, want: ErrInvalid, text: "base64"},
		{name: "structured, data_base64 is a number", bare: true, header: []string{"content-type", StructuredContentType}, body: ok + `,"data_base64":1}`, want: ErrInvalid, text: "string"},
		{name: "structured, not UTF-8", bare: true, header: []string{"content-type", StructuredContentType}, body: ok + ",\"foo\":\"\xff\"}", want: ErrInvalid, text: "UTF-8"},
		{name: "structured, content type splits a header", bare: true, header: []string{"content-type", StructuredContentType}, body: ok + `,"datacontenttype":"a/b\r\nsidestep-tried: x"}`, want: ErrInvalid, text: "datacontenttype"},
		{name: "structured, content type with spaces around", bare: true, header: []string{"content-type", StructuredContentType}, body: ok + `,"datacontenttype":" a/b"}`, want: ErrInvalid, text: "datacontenttype"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := binary(tt.header...)
			if tt.bare {
				h = pairs(tt.header...)
			}
			e, err := FromHTTP(h, []byte(tt.body))
			if !errors.Is(err, tt.want) || e != nil {
				t.Fatalf("got %v, %v, want error %v", e, err, tt.want)
			}
			if !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %q does not mention %q", err, tt.text)
			}
		})
	}
}

func TestDecodingTakesNoStringsOfTheRequest(t *testing.T) {
	t.Parallel()
	// Servers reuse the buffers that header names and values point into.
	buf := []byte("ce-foo value-long-enough text/plain")
	alias := func(i, j int) string { return unsafeString(buf[i:j]) }
	e := mustDecode(t, binary(alias(0, 6), alias(7, 24), "content-type", alias(25, 35), "knative-x", alias(7, 24)), "")
	clear(buf)
	if got := e.Get("foo"); got != "value-long-enough" {
		t.Errorf("attribute changed to %q", got)
	}
	if e.DataContentType != "text/plain" || e.Transport[0].Value != "value-long-enough" {
		t.Errorf("content type or transport changed: %q, %q", e.DataContentType, e.Transport)
	}
}

func TestLongHeadersSurviveManyArenas(t *testing.T) {
	t.Parallel()
	var kv []string
	want := make(map[string]string)
	for i := range 40 {
		name, value := fmt.Sprintf("a%d", i), strings.Repeat(string(rune('a'+i%26)), 1+37*i)
		kv = append(kv, "ce-"+name, value)
		want[name] = value
	}
	e := mustDecode(t, binary(kv...), "")
	for name, value := range want {
		if got := e.Get(name); got != value {
			t.Errorf("%s: got %.40q…, want %.40q…", name, got, value)
		}
	}
}
