package ingress

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"strconv"
	"time"
)

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := &netRequest{r: r, w: w}
	if r.ContentLength != 0 {
		n.ReadUntil(time.Now().Add(cmp.Or(h.BodyIdle, DefaultBodyIdle)))
	}
	a := h.handle(n)
	if a.status == statusClientGone {
		// Who has closed half of its connection is still there to read, and
		// what is not answered net/http answers with 200.
		a = answer{status: http.StatusServiceUnavailable, text: "gone before the answer", closing: true}
	}
	header := w.Header()
	for name, value := range a.fields {
		header.Set(name, value)
	}
	if a.text == "" {
		w.WriteHeader(a.status)
		return
	}
	http.Error(w, a.text, a.status)
	if a.closing && r.ProtoMajor == 1 && http.NewResponseController(w).Flush() == nil {
		linger(r.Body, n.ReadUntil)
	}
}

// fields are the header of an answer, beside what its text needs.
func (a *answer) fields(yield func(name, value string) bool) {
	if a.allow && !yield("Allow", allowed) {
		return
	}
	if a.handshake && !(yield("WebHook-Allowed-Origin", "*") && yield("WebHook-Allowed-Rate", "*")) {
		return
	}
	if a.retryAfter > 0 && !yield("Retry-After", strconv.Itoa(int(a.retryAfter/time.Second))) {
		return
	}
	if a.closing {
		yield("Connection", "close")
	}
}

// netRequest is a request of net/http's server.
type netRequest struct {
	r         *http.Request
	w         http.ResponseWriter
	unbounded bool // there is no connection, as in a recorder
}

func (n *netRequest) Method() string           { return n.r.Method }
func (n *netRequest) Host() string             { return n.r.Host }
func (n *netRequest) Path() string             { return n.r.URL.Path }
func (n *netRequest) Length() int64            { return n.r.ContentLength }
func (n *netRequest) Body() io.Reader          { return n.r.Body }
func (n *netRequest) Context() context.Context { return n.r.Context() }

func (n *netRequest) ReadUntil(t time.Time) {
	if n.unbounded {
		return
	}
	if w, ok := n.w.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = w.SetReadDeadline(t)
		return
	}
	n.unbounded = http.NewResponseController(n.w).SetReadDeadline(t) != nil // one that is wrapped
}

func (n *netRequest) Fields(yield func(string, string) bool) {
	for name, values := range n.r.Header {
		for _, v := range values {
			if !yield(name, v) {
				return
			}
		}
	}
}
