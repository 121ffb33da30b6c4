package egress

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// seen is a request as the server saw it.
type seen struct {
	method, uri string
	header      http.Header
	body        string
	length      int64
}

func (tr transport) recorder(t *testing.T) (*Target, <-chan seen) {
	t.Helper()
	requests := make(chan seen, 1)
	return tr.serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- seen{r.Method, r.RequestURI, r.Header, string(body), r.ContentLength}
	}), requests
}

func (s seen) want(t *testing.T, header map[string][]string) {
	t.Helper()
	if s.method != http.MethodPost || s.uri != "/path?q=1" {
		t.Errorf("got %s %s, want POST /path?q=1", s.method, s.uri)
	}
	if s.length != int64(len(s.body)) {
		t.Errorf("content length %d, body has %d bytes", s.length, len(s.body))
	}
	for name, want := range header {
		if got := s.header[name]; !slices.Equal(got, want) {
			t.Errorf("header %s: got %q, want %q", name, got, want)
		}
	}
	for name := range s.header {
		switch name {
		case "Content-Length", "Accept-Encoding":
		default:
			if _, ok := header[name]; !ok {
				t.Errorf("header %s: %q was not asked for", name, s.header[name])
			}
		}
	}
}

func TestRequestInBinaryMode(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		target, requests := tr.recorder(t)
		wantDelivered(t, send(t, newClient(t, Config{}), target))
		got := <-requests
		got.want(t, map[string][]string{
			"Prefer": {"reply"}, "Kn-Namespace": {"ns"}, "Content-Type": {"application/json"},
			"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"t"}, "Ce-Foo": {"a%20b"},
			"Traceparent": {"p"}, "Tracestate": {"a=1", "b=2"},
		})
		if got.body != `{"a":1}` {
			t.Errorf("body %q", got.body)
		}
	})
}

func TestRequestInStructuredMode(t *testing.T) {
	t.Parallel()
	header := map[string][]string{
		"Prefer": {"reply"}, "Kn-Namespace": {"ns"}, "Content-Type": {event.StructuredContentType},
		"Traceparent": {"p"}, "Tracestate": {"a=1", "b=2"},
	}
	onBoth(t, func(t *testing.T, tr transport) {
		target, requests := tr.recorder(t)
		r := newClient(t, Config{}).Send(context.Background(), request(target), Structured, patience)
		wantDelivered(t, r)
		got := <-requests
		got.want(t, header)
		if want := string(event.AppendStructured(nil, sample())); got.body != want {
			t.Errorf("body %s, want %s", got.body, want)
		}
	})
}

// In binary mode the receiver would take the inner event for the whole.
func TestEventWithinAnEventIsSentInStructuredMode(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		target, requests := tr.recorder(t)
		req := request(target)
		req.Event.DataContentType = event.StructuredContentType
		wantDelivered(t, newClient(t, Config{}).Send(context.Background(), req, Binary, patience))
		got := <-requests
		if want := string(event.AppendStructured(nil, req.Event)); got.body != want {
			t.Errorf("body %s, want %s", got.body, want)
		}
	})
}

func TestReplyAndDeadLetterRequestsDoNotAskForAReply(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		target, requests := tr.recorder(t)
		req := request(target)
		req.PreferReply, req.Event.Data, req.Event.DataContentType = false, nil, ""
		wantDelivered(t, newClient(t, Config{}).Send(context.Background(), req, Binary, patience))
		got := <-requests
		got.want(t, map[string][]string{
			"Kn-Namespace": {"ns"}, "Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"t"},
			"Ce-Foo": {"a%20b"}, "Traceparent": {"p"}, "Tracestate": {"a=1", "b=2"},
		})
		if got.body != "" {
			t.Errorf("body %q, want none", got.body)
		}
	})
}

func TestPasswordOfTheURLIsSent(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	target := transport{}.serve(t, func(_ http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		got <- user + ":" + password
	})
	target.URL = "http://user:secret@" + target.URL[len("http://"):]
	wantDelivered(t, send(t, newClient(t, Config{}), target))
	if g := <-got; g != "user:secret" {
		t.Errorf("got %q", g)
	}
}

func TestPasswordsAreNotShown(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"http://host/path":                "http://host/path",
		"http://user:secret@host/path":    "http://user:xxxxx@host/path",
		"http://host/@at?q=a@b":           "http://host/@at?q=a@b",
		"http://user:sec ret@host/%zz":    "a URL that cannot be parsed",
		"https://user:secret@[::1]:8443/": "https://user:xxxxx@[::1]:8443/",
	} {
		if got := (&Target{URL: url}).Display(); got != want {
			t.Errorf("%s is shown as %s, want %s", url, got, want)
		}
	}
}

func TestTheHostThatATargetNamesIsSent(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		hosts := make(chan string, 2)
		target := tr.serve(t, func(_ http.ResponseWriter, r *http.Request) { hosts <- r.Host })
		client := newClient(t, Config{})
		wantDelivered(t, send(t, client, target))
		if got := <-hosts; !strings.HasPrefix(got, "127.0.0.1:") {
			t.Errorf("host %q, want that of the URL", got)
		}
		named := *target
		named.Host = "caption.pics.svc.cluster.local"
		wantDelivered(t, send(t, client, &named))
		if got := <-hosts; got != named.Host {
			t.Errorf("host %q, want %q", got, named.Host)
		}
	})
}

// What a header's value has of line ends must not begin another header.
func TestLineEndsInAHeaderAreSpaces(t *testing.T) {
	t.Parallel()
	target, requests := transport{}.recorder(t)
	req := request(target)
	req.PreferReply, req.Namespace = false, "ns\r\nx-other: 1"
	req.Extra = []event.Attribute{{Name: "authorization", Value: "Bearer a\nx-more: 2\r"}}
	wantDelivered(t, newClient(t, Config{}).Send(context.Background(), req, Binary, patience))
	got := <-requests
	got.want(t, map[string][]string{
		"Kn-Namespace": {"ns  x-other: 1"}, "Authorization": {"Bearer a x-more: 2"}, "Content-Type": {"application/json"},
		"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"t"}, "Ce-Foo": {"a%20b"},
		"Traceparent": {"p"}, "Tracestate": {"a=1", "b=2"},
	})
}

// A body that does not fit beside its header is whole all the same.
func TestLargeBodyIsSent(t *testing.T) {
	t.Parallel()
	target, requests := transport{}.recorder(t)
	client := newClient(t, Config{})
	for _, size := range []int{0, 3 << 10, 4 << 10, 1 << 20} {
		req := request(target)
		req.Event.Data = []byte(strings.Repeat("x", size))
		wantDelivered(t, client.Send(context.Background(), req, Binary, patience))
		if got := <-requests; got.body != string(req.Event.Data) {
			t.Errorf("%d bytes came of %d", len(got.body), size)
		}
	}
}
