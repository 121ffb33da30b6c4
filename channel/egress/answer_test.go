package egress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/event"
)

func TestStatusDecides(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status    int
		ok, again bool
	}{
		{200, true, false},
		{201, true, false},
		{202, true, false},
		{204, true, false},
		{299, true, false},
		{300, false, false},
		{301, false, false},
		{304, false, false},
		{307, false, false},
		{400, false, false},
		{401, false, false},
		{403, false, false},
		{404, false, true},
		{405, false, false},
		{408, false, true},
		{409, false, true},
		{410, false, false},
		{413, false, false},
		{422, false, false},
		{429, false, true},
		{500, false, true},
		{502, false, true},
		{503, false, true},
		{504, false, true},
		{599, false, true},
	}
	onBoth(t, func(t *testing.T, tr transport) {
		var status atomic.Int64
		target := tr.serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) })
		c := newClient(t, Config{})
		for _, tt := range tests {
			status.Store(int64(tt.status))
			r := send(t, c, target)
			if r.Status != tt.status || (r.Err == nil) != tt.ok || r.Reply != nil {
				t.Errorf("%d: got status %d, reply %v, error %v", tt.status, r.Status, r.Reply, r.Err)
			}
			if !tt.ok && !errors.Is(r.Err, ErrStatus) {
				t.Errorf("%d: error %v is not ErrStatus", tt.status, r.Err)
			}
			if !tt.ok && Retryable(r) != tt.again {
				t.Errorf("%d: retryable is %t", tt.status, Retryable(r))
			}
		}
	})
}

func TestRedirectIsNotFollowedNorCountedAsDelivered(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		var requests atomic.Int64
		target := tr.serve(t, func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		})
		r := send(t, newClient(t, Config{}), target)
		if r.Status != http.StatusTemporaryRedirect || r.Err == nil || Retryable(r) {
			t.Errorf("got status %d, error %v, retryable %t", r.Status, r.Err, Retryable(r))
		}
		if n := requests.Load(); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
}

// reply writes an event as the answer.
func reply(w http.ResponseWriter, status int, data string) {
	h := w.Header()
	h.Set("ce-specversion", "1.0")
	h.Set("ce-id", "reply")
	h.Set("ce-source", "/r")
	h.Set("ce-type", "r")
	h.Set("ce-foo", "a%20b")
	h.Set("content-type", "text/plain")
	h.Set("traceparent", "q")
	h.Set("authorization", "secret")
	w.WriteHeader(status)
	io.WriteString(w, data) //nolint:errcheck // the client may have seen enough
}

func TestReplyIsRead(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		target := tr.serve(t, func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, "data") })
		c := newClient(t, Config{})
		r := send(t, c, target)
		if r.Err != nil || r.Reply == nil {
			t.Fatalf("got reply %v, error %v", r.Reply, r.Err)
		}
		send(t, c, target) // would overwrite what the first one borrowed
		e := r.Reply
		if e.ID != "reply" || e.Get("foo") != "a b" || e.DataContentType != "text/plain" || string(e.Data) != "data" {
			t.Errorf("got %+v", e)
		}
		if len(e.Transport) != 1 || e.Transport[0].Value != "q" {
			t.Errorf("transport headers %v", e.Transport)
		}
	})
}

func TestStructuredReplyIsRead(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		target := tr.serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/cloudevents+json; charset=utf-8")
			io.WriteString(w, `{"specversion":"1.0","id":"reply","source":"/r","type":"r","data":[1]}`) //nolint:errcheck // see the result
		})
		r := send(t, newClient(t, Config{}), target)
		if r.Err != nil || r.Reply == nil || r.Reply.ID != "reply" || string(r.Reply.Data) != "[1]" {
			t.Errorf("got reply %+v, error %v", r.Reply, r.Err)
		}
	})
}

func TestBodyOf202IsNotAReply(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		target := tr.serve(t, func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusAccepted, "data") })
		wantDelivered(t, send(t, newClient(t, Config{}), target))
	})
}

func TestBodyThatIsNoEventIsSuccessWithoutReply(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		for _, contentType := range []string{"text/html; charset=utf-8", "application/json", "", "odd\u00e9"} {
			target := tr.serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", contentType)
				io.WriteString(w, "<html>") //nolint:errcheck // see the result
			})
			wantDelivered(t, send(t, newClient(t, Config{}), target))
		}
	})
}

// Taking a broken reply for none would end the flow unseen. Trying again is of
// no use: the step has run.
func TestBrokenReplyIsNotDroppedNorRetried(t *testing.T) {
	t.Parallel()
	answers := map[string]http.HandlerFunc{
		"no id": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("ce-specversion", "1.0") },
		"batch": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("content-type", "application/cloudevents-batch+json")
		},
		"no JSON": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("content-type", "application/cloudevents+json")
		},
	}
	onBoth(t, func(t *testing.T, tr transport) {
		for name, h := range answers {
			r := send(t, newClient(t, Config{}), tr.serve(t, h))
			if r.Status != 200 || !errors.Is(r.Err, ErrReply) || Retryable(r) {
				t.Errorf("%s: got status %d, error %v", name, r.Status, r.Err)
			}
		}
	})
}

func TestRepliesAreNotTruncated(t *testing.T) {
	t.Parallel()
	const limit = 3 << 20
	data := strings.Repeat("x", limit)
	onBoth(t, func(t *testing.T, tr transport) {
		for _, chunked := range []bool{false, true} {
			target := tr.serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if !chunked {
					w.Header().Set("Content-Length", fmt.Sprint(limit))
				}
				reply(w, 200, data)
			})
			r := send(t, newClient(t, Config{MaxReplyBytes: limit}), target)
			if r.Err != nil || r.Reply == nil || string(r.Reply.Data) != data {
				t.Errorf("chunked %t: error %v, reply not whole", chunked, r.Err)
			}
		}
	})
}

func TestReplyOverTheLimitIsAnErrorAndNotCut(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		for _, chunked := range []bool{false, true} {
			target := tr.serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if !chunked {
					w.Header().Set("Content-Length", "101")
				}
				reply(w, 200, strings.Repeat("x", 50))
				w.(http.Flusher).Flush()
				io.WriteString(w, strings.Repeat("x", 51)) //nolint:errcheck // the client has seen enough
			})
			r := send(t, newClient(t, Config{MaxReplyBytes: 100}), target)
			if r.Status != 200 || !errors.Is(r.Err, ErrReply) || Retryable(r) || r.Reply != nil {
				t.Errorf("chunked %t: got status %d, error %v", chunked, r.Status, r.Err)
			}
		}
	})
}

// shifting is a store for payloads whose threshold is another one each time that it is
// asked for.
type shifting struct{ thresholds []int }

func (s *shifting) Threshold() int {
	t := s.thresholds[0]
	if len(s.thresholds) > 1 {
		s.thresholds = s.thresholds[1:]
	}
	return t
}

func (*shifting) Limit() int64 { return 1 << 20 }

func (*shifting) Store(_ context.Context, in event.Incoming) (event.Payload, error) {
	rest, err := io.ReadAll(in.Rest)
	return inMemory(append(slices.Clone(in.Head), rest...)), err
}

type inMemory []byte

func (p inMemory) Size() int64 { return int64(len(p)) }

func (p inMemory) Open(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(p)), nil
}

func TestAReplyIsWholeAlsoWhenTheThresholdChangesMeanwhile(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		target := tr.serve(t, func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, "0123456789") })
		r := send(t, newClient(t, Config{Payloads: &shifting{[]int{4, 1000}}}), target)
		if r.Err != nil || r.Reply == nil || r.Reply.Size() != 10 {
			t.Errorf("got %+v, error %v", r.Reply, r.Err)
		}
	})
}
