package ingress_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestHeadersThatTravelAndThoseThatDoNot(t *testing.T) {
	t.Parallel()
	kept := map[string]string{
		"X-Request-Id":      "r-1",
		"Knative-Extra":     "k",
		"X-B3-Traceid":      "463ac35c9f6413ad48485a3953bb6124",
		"X-B3-Sampled":      "1",
		"Traceparent":       "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"Tracestate":        "vendor=1",
		"Baggage":           "user=alice",
		"Ce-Subject":        "subject",
		"Ce-Myextension":    "value",
		"Ce-Knativehistory": "before",
		"Content-Type":      "text/plain; charset=utf-8",
	}
	dropped := map[string]string{
		"Authorization":        "Bearer secret",
		"Cookie":               "session=1",
		"X-Forwarded-For":      "10.0.0.1",
		"X-Custom":             "c",
		"Sidestep-Tried":       "forged",
		"Sidestep-Tried-Mac":   "forged",
		"Sidestep-Claim":       "forged",
		"Sidestep-Anything":    "forged",
		"Nats-Msg-Id":          "forged",
		"Nats-Expected-Stream": "forged",
		"Kn-Namespace":         "forged",
	}
	f := newFixture(t).serve()
	seen := f.subscribe()
	f.post("data", func(r *http.Request) {
		for _, m := range []map[string]string{kept, dropped} {
			for name, value := range m {
				r.Header.Set(name, value)
			}
		}
	}).want(t, http.StatusAccepted, "")
	got := seen.next(t)
	for name, want := range kept {
		if values := got.header.Values(name); len(values) != 1 || values[0] != want {
			t.Errorf("%s came as %q, want %q once", name, values, want)
		}
	}
	for name, value := range dropped {
		for _, v := range got.header.Values(name) {
			if v == value {
				t.Errorf("%s: %q travelled on", name, value)
			}
		}
	}
	if got.body != "data" {
		t.Errorf("got body %q", got.body)
	}
}

// What a client must not say does not even reach the log, where it would be
// believed.
func TestInternalHeadersFromOutsideDoNotReachTheLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t).serve()
	f.post("", func(r *http.Request) {
		for _, name := range []string{"Sidestep-Tried", "SIDESTEP-X", "sidestep-claim", "Authorization"} {
			r.Header[name] = []string{"forged"}
		}
	}).want(t, http.StatusAccepted, "")
	rec := f.receive()
	for _, h := range rec.Header {
		if h.Value == "forged" {
			t.Errorf("the log holds %s: %s", h.Name, h.Value)
		}
	}
}

func TestBothModesAndVersionsArriveAsTheyWere(t *testing.T) {
	t.Parallel()
	const json = "application/cloudevents+json"
	tests := []struct {
		name    string
		body    string
		edit    func(*http.Request)
		version string
		content string
		data    string
		extra   map[string]string
	}{
		{"binary", "data", nil, "1.0", "text/plain", "data", nil},
		{"binary 0.3", "data", func(r *http.Request) {
			r.Header.Set("ce-specversion", "0.3")
			r.Header.Set("ce-schemaurl", "http://schema.example")
		}, "0.3", "text/plain", "data", map[string]string{"ce-schemaurl": "http://schema.example"}},
		{"binary, no data", "", without("Content-Type"), "1.0", "", "", nil},
		{
			"structured", `{"specversion":"1.0","id":"1","source":"/source","type":"type","ext":7,"datacontenttype":"application/json","data":{"a": [1]}}`,
			with("Content-Type", json+"; charset=utf-8"), "1.0", "application/json", `{"a": [1]}`,
			map[string]string{"ce-ext": "7"},
		},
		{
			"structured 0.3", `{"specversion":"0.3","id":"1","source":"/source","type":"type","datacontenttype":"text/plain","datacontentencoding":"base64","data":"AP8="}`,
			with("Content-Type", json), "0.3", "text/plain", "\x00\xff", nil,
		},
		{
			"structured, base64", `{"specversion":"1.0","id":"1","source":"/source","type":"type","datacontenttype":"image/png","data_base64":"AP8="}`,
			with("Content-Type", json), "1.0", "image/png", "\x00\xff", nil,
		},
	}
	f := newFixture(t).serve()
	seen := f.subscribe()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.post(tt.body, tt.edit).want(t, http.StatusAccepted, "")
			got := seen.next(t)
			want := map[string]string{
				"ce-specversion": tt.version, "ce-id": "1", "ce-source": "/source", "ce-type": "type", "Content-Type": tt.content,
			}
			for name, value := range tt.extra {
				want[name] = value
			}
			for name, value := range want {
				if g := got.header.Get(name); g != value {
					t.Errorf("got %s %q, want %q", name, g, value)
				}
			}
			for name := range got.header {
				if strings.HasPrefix(name, "Ce-") && want[strings.ToLower(name)] == "" {
					t.Errorf("the attribute %s was added: %q", name, got.header.Get(name))
				}
			}
			if got.body != tt.data {
				t.Errorf("got data %q, want %q", got.body, tt.data)
			}
		})
	}
}
