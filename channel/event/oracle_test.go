package event

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	sdk "github.com/cloudevents/sdk-go/v2/event"
	sdkhttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/cloudevents/sdk-go/v2/types"
)

// sdkDecode is the CloudEvents SDK's opinion of a message; nil: it refuses.
func sdkDecode(header http.Header, body []byte) *sdk.Event {
	m := sdkhttp.NewMessage(header, io.NopCloser(bytes.NewReader(body)))
	e, err := binding.ToEvent(context.Background(), m)
	if err != nil || e.Validate() != nil {
		return nil
	}
	return e
}

// sdkAttributes are all attributes of an SDK event in canonical string form,
// those absent left out.
func sdkAttributes(t testing.TB, e *sdk.Event) map[string]string {
	t.Helper()
	m := map[string]string{"specversion": e.SpecVersion(), "id": e.ID(), "source": e.Source(), "type": e.Type()}
	put := func(name, value string) {
		if value != "" {
			m[name] = value
		}
	}
	put("datacontenttype", e.DataContentType())
	put("subject", e.Subject())
	if !e.Time().IsZero() {
		put("time", types.FormatTime(e.Time()))
	}
	switch c := e.Context.(type) {
	case *sdk.EventContextV1:
		put("dataschema", e.DataSchema())
	case *sdk.EventContextV03:
		put("schemaurl", e.DataSchema())
		put("datacontentencoding", c.DeprecatedGetDataContentEncoding())
	}
	for name, value := range e.Extensions() {
		s, err := types.Format(value)
		if err != nil {
			t.Fatalf("extension %s: %v", name, err)
		}
		put(name, s)
	}
	return m
}

// ourAttributes are those of e, with values as the SDK would show them. That
// list is all in which it may differ from us on attributes:
//
//   - It trims id, source, type and others. (Type system: a String is any
//     sequence of allowable Unicode characters; nothing says trim.)
//   - It parses URIs and times and prints them anew; we keep what was sent.
//     (HTTP binding 3.1.3: values are those of the attributes.)
//   - It drops attributes with empty values.
func ourAttributes(e *Event) map[string]string {
	m := map[string]string{"specversion": e.SpecVersion, "id": e.ID, "source": e.Source, "type": e.Type}
	if e.DataContentType != "" {
		m["datacontenttype"] = e.DataContentType
	}
	for _, a := range e.Attributes {
		if a.Value != "" {
			m[a.Name] = a.Value
		}
	}
	return m
}

// asSDK is a value of ours as the SDK prints it.
func asSDK(name, value string) string {
	value = strings.TrimSpace(value)
	switch name {
	case "source", "dataschema", "schemaurl":
		if u, err := url.Parse(value); err == nil {
			return u.String()
		}
	case "time":
		if at, err := time.Parse(time.RFC3339Nano, value); err == nil {
			return types.FormatTime(at)
		}
	case "datacontentencoding":
		return strings.ToLower(value)
	}
	return value
}

// wantSame compares what both accepted.
func wantSame(t *testing.T, ours *Event, theirs *sdk.Event) {
	t.Helper()
	want, got := sdkAttributes(t, theirs), ourAttributes(ours)
	for name, value := range got {
		w, ok := want[name]
		if (!ok && asSDK(name, value) != "") || (ok && asSDK(name, value) != asSDK(name, w)) {
			t.Errorf("attribute %s: got %q, SDK %q (present: %t)", name, value, w, ok)
		}
	}
	for name, w := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("attribute %s is missing, SDK %q", name, w)
		}
	}
	g, w := ours.Data, theirs.DataEncoded
	if isJSON(ours.DataContentType) {
		g, w = bytes.TrimSpace(g), bytes.TrimSpace(w)
	}
	if !bytes.Equal(g, w) {
		t.Errorf("data: got %q, SDK %q", g, w)
	}
}

// The oracle is of use only where both accept: these they do.
func TestSDKAgrees(t *testing.T) {
	t.Parallel()
	const head = `{"specversion":"1.0","id":"1","source":"http://h/s","type":"t","datacontenttype":`
	messages := map[string]struct {
		header http.Header
		body   string
	}{
		"binary": {http.Header{
			"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"t"}, "Content-Type": {"text/plain"},
			"Ce-Time": {"2026-01-02T03:04:05.5+09:00"}, "Ce-Subject": {"s"}, "Ce-Dataschema": {"http://h/x"}, "Ce-Foo": {"bar"},
		}, "data"},
		"binary 0.3": {http.Header{
			"Ce-Specversion": {"0.3"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"t"}, "Ce-Schemaurl": {"/x"},
		}, ""},
		"JSON":   {nil, head + `"application/json","data":{"a":[1, "x"]},"foo":"bar","n":-5,"b":true,"x":null,"time":"2026-01-02T03:04:05Z"}`},
		"base64": {nil, head + `"image/png","data_base64":"AP8="}`},
		"0.3":    {nil, `{"specversion":"0.3","id":"1","source":"/s","type":"t","datacontenttype":"application/json","schemaurl":"/x","data":1}`},
	}
	for name, m := range messages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if m.header == nil {
				m.header = http.Header{"Content-Type": {StructuredContentType}}
			}
			theirs := sdkDecode(m.header, []byte(m.body))
			if theirs == nil {
				t.Fatal("the SDK refuses")
			}
			var kv []string
			for name, values := range m.header {
				kv = append(kv, name, values[0])
			}
			wantSame(t, mustDecode(t, pairs(kv...), m.body), theirs)
		})
	}
}

// What the SDK sends, binary and structured, is the event that it meant.
func TestWhatTheSDKSendsIsRead(t *testing.T) {
	t.Parallel()
	theirs := sdk.New()
	theirs.SetID("1")
	theirs.SetSource("/s")
	theirs.SetType("t")
	theirs.SetSubject("s")
	theirs.SetTime(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC))
	theirs.SetExtension("foo", "bar")
	theirs.SetExtension("n", 5)
	if err := theirs.SetData("application/json", map[string]int{"a": 1}); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []func(context.Context) context.Context{binding.WithForceBinary, binding.WithForceStructured} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://h", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := sdkhttp.WriteRequest(mode(t.Context()), binding.ToMessage(&theirs), req); err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Fatal(err)
		}
		var kv []string
		for name, values := range req.Header {
			kv = append(kv, name, values[0])
		}
		wantSame(t, mustDecode(t, pairs(kv...), string(body)), &theirs)
	}
}
