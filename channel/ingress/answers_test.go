package ingress_test

import (
	"net/http"
	"strings"
	"testing"
)

// without removes a header from an event that is valid otherwise.
func without(name string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Del(name) }
}

func with(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func path(p string) func(*http.Request) {
	return func(r *http.Request) { r.URL.Path = p }
}

// byHost posts as a sender within a cluster does.
func byHost(host, path string) func(*http.Request) {
	return func(r *http.Request) { r.Host, r.URL.Path = host, path }
}

// The rows of CONTRACT section 6 that need neither load nor a fault.
func TestEveryRefusalIsPreciseAndStoresNothing(t *testing.T) {
	t.Parallel()
	const json = "application/cloudevents+json"
	tests := []struct {
		name   string
		body   string
		edit   func(*http.Request)
		status int
		text   []string
	}{
		{"not a CloudEvent", "hello", func(r *http.Request) { r.Header = nil }, 400, []string{"ce-specversion", json}},
		{"JSON that is not a CloudEvent", `{"a":1}`, func(r *http.Request) {
			r.Header = http.Header{"Content-Type": {"application/json"}}
		}, 400, []string{"not a CloudEvent"}},
		{"empty request", "", func(r *http.Request) { r.Header = nil }, 400, []string{"not a CloudEvent"}},
		{"bad specversion", "", with("ce-specversion", "2.0"), 400, []string{"specversion", `"2.0"`, "1.0 or 0.3"}},
		{"missing specversion", "", without("ce-specversion"), 400, []string{"specversion is missing"}},
		{"missing id", "", without("ce-id"), 400, []string{"id is missing"}},
		{"missing source", "", without("ce-source"), 400, []string{"source is missing"}},
		{"missing type", "", without("ce-type"), 400, []string{"type is missing"}},
		{"empty id", "", with("ce-id", ""), 400, []string{"id is missing"}},
		{"bad time", "", with("ce-time", "yesterday"), 400, []string{"time", "RFC 3339"}},
		{"bad attribute name", "", with("ce-a_b", "x"), 400, []string{`"a_b"`}},
		{"attribute twice", "", func(r *http.Request) { r.Header.Add("ce-id", "2") }, 400, []string{"id is given twice"}},
		{"batched", "[]", with("Content-Type", "application/cloudevents-batch+json"), 400, []string{"one event per request"}},
		{"structured, not JSON", "{", with("Content-Type", json), 400, []string{"invalid CloudEvent"}},
		{"structured, without id", `{"specversion":"1.0","source":"/s","type":"t"}`, with("Content-Type", json), 400, []string{"id is missing"}},
		{"structured, in a format unknown", "x", with("Content-Type", "application/cloudevents+avro"), 400, []string{json}},

		{"host with a path", "", byHost(host, "/ns/a"), 400, []string{host, "want the path /"}},
		{"path without a name", "", path("/ns"), 400, []string{"want /namespace/name"}},
		{"path with an empty name", "", path("/ns/"), 400, []string{"want /namespace/name"}},
		{"path with an empty namespace", "", path("//a"), 400, []string{"want /namespace/name"}},
		{"path too long", "", path("/ns/a/b"), 400, []string{"/ns/a/b"}},

		{"unknown host", "", byHost("b-kn-channel.ns.svc.cluster.local", "/"), 404, []string{"b-kn-channel.ns.svc.cluster.local"}},
		{"unknown channel by path", "", path("/ns/b"), 404, []string{"ns/b"}},
		{"unknown namespace", "", path("/other/a"), 404, []string{"other/a"}},
		{"draining channel by host", "", byHost("gone-kn-channel.ns.svc.cluster.local", "/"), 404, []string{"no channel"}},
		{"draining channel by path", "", path("/ns/gone"), 404, []string{"ns/gone"}},
	}
	f := newFixture(t).serve()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := f.post(tt.body, tt.edit)
			a.want(t, tt.status, "", tt.text...)
			if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, "text/plain") {
				t.Errorf("the answer's content type is %q, want text", got)
			}
		})
	}
	f.wantStored(0)
	f.wantBudgetFree()
}

func TestAnyOtherMethodIsToldWhichAreAllowed(t *testing.T) {
	t.Parallel()
	f := newFixture(t).serve()
	for _, method := range []string{"GET", "PUT", "DELETE", "PATCH", "HEAD", "PROPFIND"} {
		t.Run(method, func(t *testing.T) {
			a := f.post("", func(r *http.Request) { r.Method = method })
			a.want(t, http.StatusMethodNotAllowed, "")
			if got := a.header.Get("Allow"); got != "POST, OPTIONS" {
				t.Errorf("got Allow %q, want %q", got, "POST, OPTIONS")
			}
		})
	}
	f.wantStored(0)
}

func TestOptionsAllowsAnyOriginAtAnyRate(t *testing.T) {
	t.Parallel()
	f := newFixture(t).serve()
	a := f.post("", func(r *http.Request) {
		r.Method = http.MethodOptions
		r.Header = http.Header{"Webhook-Request-Origin": {"sender.example"}}
	})
	a.want(t, http.StatusOK, "")
	for name, want := range map[string]string{
		"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "*", "Allow": "POST, OPTIONS",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("got %s %q, want %q", name, got, want)
		}
	}
	f.wantStored(0)
}

func TestChannelIsFoundByHostAndByPath(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		edit func(*http.Request)
	}{
		{"path", nil},
		{"path with a slash at its end, as Knative's channels take it", path("/ns/a/")},
		{"path with a query", func(r *http.Request) { r.URL.RawQuery = "a=b" }},
		{"path at another host", byHost("ingress.example:8080", "/ns/a")},
		{"host", byHost(host, "/")},
		{"host without a path", byHost(host, "")},
		{"host with a query", func(r *http.Request) { r.Host, r.URL.Path, r.URL.RawQuery = host, "/", "a=b" }},
		{"host with a port", byHost(host+":80", "/")},
		{"host in capitals", byHost(strings.ToUpper(host), "/")},
		{"host with the root's dot", byHost(host+".", "/")},
		{"host with all of these", byHost(strings.ToUpper(host)+".:8080", "/")},
	}
	f := newFixture(t).serve()
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := f.post("data", tt.edit)
			a.want(t, http.StatusAccepted, "")
			if a.text != "" {
				t.Errorf("202 came with a body: %q", a.text)
			}
			f.wantStored(int64(i + 1))
		})
	}
	f.wantBudgetFree()
}

// Two channels must not share a host, nor a prefix of one.
func TestHostIsMatchedAsAWhole(t *testing.T) {
	t.Parallel()
	f := newFixture(t).serve()
	for _, h := range []string{"a-kn-channel.ns.svc", "x" + host, host + ".example", "a", "ns"} {
		f.post("", byHost(h, "/")).want(t, http.StatusNotFound, "")
	}
	f.wantStored(0)
}
