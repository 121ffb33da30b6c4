package event

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	tests := map[string]*Event{
		"least": mustDecode(t, binary(), ""),
		"all": mustDecode(t, binary(
			"ce-partitionkey", "k 1", "ce-foo", "€ \"%\"", "ce-empty", "", "content-type", "text/plain; charset=utf-8",
			"tracestate", "a=1", "tracestate", "b=2", "knative-x", "%20",
		), "\x00\xff"),
		"control characters": mustDecode(t, binary("ce-foo", "a%0D%0Asidestep-tried: x%00"), ""),
		"version 0.3":        mustDecode(t, pairs("ce-specversion", "0.3", "ce-id", "1", "ce-source", "/s", "ce-type", "t"), "d"),
	}
	for name, e := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := backend.Header{Name: "sidestep-tried", Value: "own"}
			r := ToRecord(e, own)
			for _, h := range r.Header {
				if !token(h.Name) || !fieldValue(h.Value) {
					t.Errorf("header %q: %q breaks the contract of backend.Record", h.Name, h.Value)
				}
			}
			if last := r.Header[len(r.Header)-1]; last != own {
				t.Errorf("last header %v, want %v", last, own)
			}
			if got := e.Get("partitionkey"); r.Key != got {
				t.Errorf("key %q, want %q", r.Key, got)
			}
			plain := ToRecord(e)
			if got, want := RecordSize(e), plain.Size(); got != want {
				t.Errorf("RecordSize %d, want %d", got, want)
			}
			back, err := FromRecord(&r)
			if err != nil {
				t.Fatal(err)
			}
			wantEqual(t, back, e)
		})
	}
}

func TestRecordsOfOthersAreRead(t *testing.T) {
	t.Parallel()
	e, err := FromRecord(&backend.Record{
		Header: []backend.Header{
			{Name: "Ce-SpecVersion", Value: "1.0"},
			{Name: "Ce-Id", Value: `"a b"`},
			{Name: "ce-source", Value: "/s"},
			{Name: "ce-type", Value: "t"},
			{Name: "ce-datacontenttype", Value: "ignored"},
			{Name: "Content-Type", Value: "a/b"},
			{Name: "Nats-Msg-Id", Value: "x"},
			{Name: "Sidestep-Tried", Value: "x"},
			{Name: "Traceparent", Value: "p"},
		},
		Data: []byte("d"),
	})
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, e, &Event{
		SpecVersion: "1.0", ID: "a b", Source: "/s", Type: "t", DataContentType: "a/b",
		Transport: []Attribute{{"traceparent", "p"}}, Data: []byte("d"),
	})
}

// As the CloudEvents SDK for Go writes to NATS.
func TestRecordsWithTheContentTypeAsAnAttributeAreRead(t *testing.T) {
	t.Parallel()
	e, err := FromRecord(&backend.Record{
		Header: []backend.Header{
			{Name: "ce-datacontenttype", Value: "a/b"},
			{Name: "ce-specversion", Value: "1.0"},
			{Name: "ce-id", Value: "1"},
			{Name: "ce-source", Value: "/s"},
			{Name: "ce-type", Value: "t"},
		},
		Data: []byte("d"),
	})
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, e, &Event{
		SpecVersion: "1.0", ID: "1", Source: "/s", Type: "t", DataContentType: "a/b", Data: []byte("d"),
	})
}

func TestRecordsOfOthersInStructuredModeAreRead(t *testing.T) {
	t.Parallel()
	body := []byte(` {"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data":"d"}`)
	want := &Event{
		SpecVersion: "1.0", ID: "1", Source: "/s", Type: "t", DataContentType: "text/plain", Data: []byte("d"),
	}
	for name, header := range map[string][]backend.Header{
		"with its content type": {{Name: "Content-Type", Value: "application/cloudevents+json; charset=utf-8"}},
		"without headers":       nil,
	} {
		e, err := FromRecord(&backend.Record{Header: header, Data: body})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wantEqual(t, e, want)
	}
	for name, r := range map[string]*backend.Record{
		"another content type": {Header: []backend.Header{{Name: "content-type", Value: "application/json"}}, Data: body},
		"a batch": {
			Header: []backend.Header{{Name: "content-type", Value: "application/cloudevents-batch+json"}}, Data: body,
		},
		"no object": {Data: []byte(`"text"`)},
	} {
		if _, err := FromRecord(r); !errors.Is(err, ErrNotCloudEvent) {
			t.Errorf("%s: got %v, want ErrNotCloudEvent", name, err)
		}
	}
	if _, err := FromRecord(&backend.Record{Data: []byte(`{"id":"1"}`)}); !errors.Is(err, ErrInvalid) {
		t.Errorf("attributes missing: got %v, want ErrInvalid", err)
	}
}

// An event whose data is an event is in binary mode all the same.
func TestAnEventAsDataIsNotTakenForTheWhole(t *testing.T) {
	t.Parallel()
	e := &Event{
		SpecVersion: "1.0", ID: "outer", Source: "/s", Type: "t", DataContentType: StructuredContentType,
		Data: []byte(`{"specversion":"1.0","id":"inner","source":"/s","type":"t"}`),
	}
	r := ToRecord(e)
	back, err := FromRecord(&r)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, back, e)
}

func TestRecordThatIsNoEvent(t *testing.T) {
	t.Parallel()
	if _, err := FromRecord(&backend.Record{Data: []byte("x")}); !errors.Is(err, ErrNotCloudEvent) {
		t.Errorf("no header: got %v, want ErrNotCloudEvent", err)
	}
	for _, h := range []backend.Header{{Name: "ce-id", Value: "1"}, {Name: "ce-a-b", Value: "1"}} {
		if _, err := FromRecord(&backend.Record{Header: []backend.Header{h}}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: got %v, want ErrInvalid", h, err)
		}
	}
}

// An event may come in with as many attributes as are allowed and then get the
// extensions of a dead letter. It must not be lost in the log for that.
func TestFullEventSurvivesBecomingADeadLetter(t *testing.T) {
	t.Parallel()
	var kv []string
	for i := range MaxAttributes {
		kv = append(kv, fmt.Sprintf("ce-a%d", i), "v")
	}
	letter := mustDecode(t, binary(kv...), "").With(
		Attribute{"knativeerrordest", "http://x"}, Attribute{"knativeerrorcode", "500"}, Attribute{"knativeerrordata", "eA=="})
	r := ToRecord(letter)
	back, err := FromRecord(&r)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, back, letter)
}

func TestWithLeavesTheOriginal(t *testing.T) {
	t.Parallel()
	e := mustDecode(t, binary("ce-a", "1", "ce-b", "2"), "d")
	c := e.With(Attribute{"b", "3"}, Attribute{"c", "4"})
	wantSet(t, "original", e.Attributes, []Attribute{{"a", "1"}, {"b", "2"}})
	wantSet(t, "copy", c.Attributes, []Attribute{{"a", "1"}, {"b", "3"}, {"c", "4"}})
	if c.ID != e.ID || string(c.Data) != "d" {
		t.Errorf("copy has id %q and data %q", c.ID, c.Data)
	}
}

func TestEscape(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want string }{
		{"", ""},
		{"plain-~!", "plain-~!"},
		{"a b", "a%20b"},
		{`"%"`, "%22%25%22"},
		{"€", "%E2%82%AC"},
		{"\x00\x7f\t", "%00%7F%09"},
	}
	for _, tt := range tests {
		if got := escape(tt.in); got != tt.want {
			t.Errorf("escape(%q) = %q, want %q", tt.in, got, tt.want)
		}
		if got := unescape(tt.want); got != tt.in {
			t.Errorf("unescape(%q) = %q, want %q", tt.want, got, tt.in)
		}
	}
}

func TestUnescapeLeavesWhatIsNotWellFormed(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want string }{
		{"100%", "100%"},
		{"%4", "%4"},
		{"%zz%41", "%zzA"},
		{"%2541", "%41"}, // one round only
		{"%e2%82%ac", "€"},
		{`"`, `"`},
		{`""`, ""},
		{`"a" and "b"`, `"a" and "b"`},
		{`"a\"`, `"a\"`},
		{`"a\\"`, `a\`},
		{`a"b"`, `a"b"`},
		{strings.Repeat("%", 5), strings.Repeat("%", 5)},
	}
	for _, tt := range tests {
		if got := unescape(tt.in); got != tt.want {
			t.Errorf("unescape(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}
