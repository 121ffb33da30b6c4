package event

import (
	"strings"
	"testing"
)

func TestStructuredModeIsDecoded(t *testing.T) {
	t.Parallel()
	const head = `{"specversion":"1.0","id":"1","source":"/s","type":"t"`
	base := Event{SpecVersion: "1.0", ID: "1", Source: "/s", Type: "t"}
	with := func(contentType, data string, attrs ...Attribute) Event {
		e := base
		e.DataContentType, e.Attributes = contentType, attrs
		if data != "" {
			e.Data = []byte(data)
		}
		return e
	}
	tests := []struct {
		name, contentType, body string
		want                    Event
	}{
		{"no data", "", head + `}`, with("", "")},
		{"media type with parameters and capitals", "Application/CloudEvents+JSON ; charset=UTF-8", head + `}`, with("", "")},
		{"JSON data without a type", "", head + `,"data":{"a": [1, 2]}}`, with("application/json", `{"a": [1, 2]}`)},
		{"JSON string stays JSON", "", head + `,"datacontenttype":"text/json","data":"x"}`, with("text/json", `"x"`)},
		{"JSON suffix", "", head + `,"datacontenttype":"a/b+json; x=y","data":"x"}`, with("a/b+json; x=y", `"x"`)},
		{"text", "", head + `,"datacontenttype":"text/plain","data":"a\u20acb"}`, with("text/plain", "a€b")},
		{"empty text is no data", "", head + `,"datacontenttype":"text/plain","data":""}`, with("text/plain", "")},
		{"number for text", "", head + `,"datacontenttype":"text/plain","data":5}`, with("text/plain", "5")},
		{"base64", "", head + `,"datacontenttype":"image/png","data_base64":"AP8="}`, with("image/png", "\x00\xff")},
		{"base64 without a type", "", head + `,"data_base64":"AP8="}`, with("", "\x00\xff")},
		{"null is absent", "", head + `,"subject":null,"data":null,"data_base64":null,"datacontenttype":null}`, with("", "")},
		{
			"values in canonical form", "", head + `,"flag":true,"count":-7,"text":"%20","subject":"a b","time":"2026-01-02T03:04:05.6Z"}`,
			with("", "", Attribute{"flag", "true"}, Attribute{"count", "-7"}, Attribute{"text", "%20"}, Attribute{"subject", "a b"}, Attribute{"time", "2026-01-02T03:04:05.6Z"}),
		},
		{"empty datacontenttype is absent", "", head + `,"datacontenttype":""}`, with("", "")},
		{
			"version 0.3 in base64", "", `{"specversion":"0.3","id":"1","source":"/s","type":"t","datacontentencoding":"Base64","datacontenttype":"a/b","data":"AP8="}`,
			Event{SpecVersion: "0.3", ID: "1", Source: "/s", Type: "t", DataContentType: "a/b", Data: []byte("\x00\xff")},
		},
		{
			"version 0.3 in JSON", "", `{"specversion":"0.3","id":"1","source":"/s","type":"t","schemaurl":"/x","data":{}}`,
			Event{
				SpecVersion: "0.3", ID: "1", Source: "/s", Type: "t", DataContentType: "application/json",
				Attributes: []Attribute{{"schemaurl", "/x"}}, Data: []byte("{}"),
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := structured()
			if tt.contentType != "" {
				h = pairs("Content-Type", tt.contentType)
			}
			e := mustDecode(t, h, tt.body)
			wantEqual(t, e, &tt.want)
			wantEqual(t, mustDecode(t, structured(), string(AppendStructured(nil, e))), &tt.want)
		})
	}
}

func TestHeadersDoNotOverrideTheStructuredBody(t *testing.T) {
	t.Parallel()
	e := mustDecode(t, structured("ce-id", "header", "ce-foo", "header"), `{"specversion":"1.0","id":"body","source":"/s","type":"t"}`)
	if e.ID != "body" || e.Get("foo") != "" {
		t.Errorf("got id %q and foo %q, want those of the body alone", e.ID, e.Get("foo"))
	}
}

func TestEncodingOfDataInStructuredMode(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, version, contentType, data, want string
	}{
		{"JSON", "1.0", "application/json", `{"a": 1}`, `"data":{"a": 1}`},
		{"JSON with space around", "1.0", "application/json", " 1\n", `"data":1`},
		{"JSON that is none", "1.0", "application/json", "{", `"data_base64":"ew=="`},
		{"JSON that is not UTF-8", "1.0", "application/json", "\"\xff\"", `"data_base64":"Iv8i"`},
		{"null would read as no data", "1.0", "application/json", "null", `"data_base64":"bnVsbA=="`},
		{"text", "1.0", "text/plain", "a", `"data_base64":"YQ=="`},
		{"no type", "1.0", "", "1", `"data_base64":"MQ=="`},
		{"0.3, JSON", "0.3", "application/json", "1", `"data":1`},
		{"0.3, text", "0.3", "text/plain", "a", `"datacontentencoding":"base64","data":"YQ=="`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := &Event{SpecVersion: tt.version, ID: "1", Source: "/s", Type: "t", DataContentType: tt.contentType, Data: []byte(tt.data)}
			got := string(AppendStructured([]byte("before"), e))
			if !strings.HasPrefix(got, "before{") || !strings.HasSuffix(got, ","+tt.want+"}") {
				t.Fatalf("got %s, want it to end in %s", got, tt.want)
			}
			back := mustDecode(t, structured(), strings.TrimPrefix(got, "before"))
			if g, w := strings.TrimSpace(string(back.Data)), strings.TrimSpace(tt.data); g != w {
				t.Errorf("data came back as %q, want %q", g, w)
			}
		})
	}
}

func TestEventWithinAnEventIsNotUnpacked(t *testing.T) {
	t.Parallel()
	inner := `{"specversion":"1.0","id":"inner","source":"/s","type":"t"}`
	e := mustDecode(t, structured(), `{"specversion":"1.0","id":"outer","source":"/s","type":"t","datacontenttype":"application/cloudevents+json","data":`+inner+`}`)
	if e.ID != "outer" || string(e.Data) != inner {
		t.Fatalf("got id %q and data %s", e.ID, e.Data)
	}
	if !StructuredOnly(e) {
		t.Error("StructuredOnly is false: in binary mode the receiver would see the inner event")
	}
	wantEqual(t, mustDecode(t, structured(), string(AppendStructured(nil, e))), e)
	if StructuredOnly(mustDecode(t, binary("content-type", "application/json"), "1")) {
		t.Error("StructuredOnly is true for JSON")
	}
}
