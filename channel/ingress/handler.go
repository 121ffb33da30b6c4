package ingress

import (
	"net/http"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/internal/budget"
)

// DefaultBudgetWait is how long a request waits for memory.
const DefaultBudgetWait = time.Second

// Handler takes events for the channels of a Dispatcher. Fields are not
// changed once it serves.
type Handler struct {
	// Dispatcher has the channels and stores their events.
	Dispatcher *channel.Dispatcher
	// Budget bounds the bytes of requests in memory.
	Budget *budget.Budget
	// MaxEventBytes bounds a request's body, and the event as it is stored:
	// the backend's limit, or less.
	MaxEventBytes int
	// BudgetWait is how long a request waits for Budget before it is
	// refused. 0: DefaultBudgetWait.
	BudgetWait time.Duration
	// Observe, if set, is called once for each request: with its channel,
	// nil if there is none; the status that it was answered with, 499 if the
	// client had gone; the bytes of its body; and how long it took.
	Observe func(c *channel.Channel, status, bytes int, took time.Duration)
}

// statusClientGone is what nginx logs for a client that did not wait.
const statusClientGone = 499

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	x := exchange{Handler: h, request: r, writer: w}
	status := x.serve()
	if h.Observe != nil {
		h.Observe(x.channel, status, x.bytes, time.Since(start))
	}
}

// exchange is one request on its way through the Handler.
type exchange struct {
	*Handler
	request *http.Request
	writer  http.ResponseWriter
	channel *channel.Channel // nil until it was resolved
	bytes   int              // of the body, as far as it was read
}

// serve answers the request and returns the status.
func (x *exchange) serve() int {
	switch x.request.Method {
	case http.MethodPost:
	case http.MethodOptions:
		return x.options()
	default:
		x.writer.Header().Set("Allow", allowed)
		return x.refuse(refusal{status: http.StatusMethodNotAllowed, text: "want POST, with an event"})
	}
	// The table is not held while a client takes its time to send: it would
	// keep alive what was removed from it.
	view := x.Dispatcher.Hold()
	c, err := resolve(view, x.request)
	view.Release()
	if err != nil {
		return x.refuse(err)
	}
	x.channel = c
	if err := x.Dispatcher.Room(); err != nil {
		return x.refuse(err)
	}
	b, err := x.read()
	if err != nil {
		return x.refuse(err)
	}
	defer b.free()
	e, err := event.FromHTTP(fields(x.request.Header), b.bytes)
	if err != nil {
		return x.refuse(err)
	}
	if size := event.RecordSize(e); size > x.MaxEventBytes {
		return x.refuse(tooLarge(int64(size), x.MaxEventBytes))
	}
	if err := x.publish(e); err != nil {
		return x.refuse(err)
	}
	x.writer.WriteHeader(http.StatusAccepted)
	return http.StatusAccepted
}

// publish looks for the channel again: the table may have changed meanwhile.
func (x *exchange) publish(e *event.Event) error {
	view := x.Dispatcher.Hold()
	defer view.Release()
	c, err := resolve(view, x.request)
	if err != nil {
		return err
	}
	return x.Dispatcher.Publish(x.request.Context(), c, e)
}

const allowed = "POST, OPTIONS"

// options is the handshake of CloudEvents' webhook abuse protection, section
// 4.2: anyone may send, at any rate.
func (x *exchange) options() int {
	h := x.writer.Header()
	h.Set("Allow", allowed)
	h.Set("WebHook-Allowed-Origin", "*")
	h.Set("WebHook-Allowed-Rate", "*")
	x.writer.WriteHeader(http.StatusOK)
	return http.StatusOK
}

// fields walks a header's names and values.
func fields(header http.Header) func(yield func(string, string) bool) {
	return func(yield func(string, string) bool) {
		for name, values := range header {
			for _, v := range values {
				if !yield(name, v) {
					return
				}
			}
		}
	}
}
