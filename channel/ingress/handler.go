package ingress

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/internal/budget"
)

// Defaults of a Handler.
const (
	DefaultBudgetWait = time.Second
	DefaultBodyIdle   = time.Minute
	DefaultBodyRate   = 1 << 10
)

// Handler takes events for the channels of a Dispatcher. Fields are not
// changed once it serves.
type Handler struct {
	// Dispatcher has the channels and stores their events.
	Dispatcher *channel.Dispatcher
	// Budget bounds the bytes of requests in memory.
	Budget *budget.Budget
	// MaxEventBytes bounds an event as it is stored in the log: the backend's
	// limit, or less.
	MaxEventBytes int
	// MaxBodyBytes bounds the body of a request that has to be in memory: any
	// if there are no Payloads, else one in structured mode. 0: MaxEventBytes.
	MaxBodyBytes int
	// Payloads takes in the data that is too large for the log; may be nil.
	Payloads event.PayloadStore
	// BudgetWait is how long a request waits for Budget before it is
	// refused. 0: DefaultBudgetWait.
	BudgetWait time.Duration
	// Admit, if set, decides who may send to a channel. It is called before the
	// body is read, with what the request has in Authorization; what it
	// returns, unless nil, is asked again once the event is known. A refusal is
	// the error that Refuse makes; any other is answered with 503.
	Admit func(ctx context.Context, c *channel.Channel, authorization string) (func(*event.Event) error, error)
	// BodyIdle is how long the body of a request may pause, and the reader of a link.
	// 0: DefaultBodyIdle.
	BodyIdle time.Duration
	// BodyRate is how many bytes a second a body must have on average, once
	// BodyIdle has passed: a payload of any size may take its time, and nobody
	// keeps a place by sending a byte now and then. 0: DefaultBodyRate.
	BodyRate int64
	// Observe, if set, is called once for each request: with its channel,
	// nil if there is none; the status that it was answered with, 499 if the
	// client had gone; the bytes of its body; and how long it took.
	Observe func(c *channel.Channel, status, bytes int, took time.Duration)
}

// statusClientGone is what nginx logs for a client that did not wait.
const statusClientGone = 499

// request is what the Handler asks of the server that it runs in. What it
// returns may be used until the request is answered.
type request interface {
	Method() string
	Host() string
	// Path is as it was sent, but for its percent-encoding.
	Path() string
	// Length of the body, negative if the client did not tell.
	Length() int64
	Fields(yield func(name, value string) bool)
	Body() io.Reader
	// ReadUntil bounds the reading of the body; zero: it is over.
	ReadUntil(t time.Time)
	// Context ends when nobody waits for the answer any more.
	Context() context.Context
}

// answer is what the server is to send.
type answer struct {
	status     int
	text       string // "" for none
	retryAfter time.Duration
	// closing: the connection is of no further use.
	closing bool
	// allow tells the methods; handshake that anyone may send at any rate.
	allow, handshake bool
}

const allowed = http.MethodPost + ", " + http.MethodOptions

// drained is the most of a refused request's body that is read for the sake of its
// connection; both servers do so.
const drained = 64 << 10

// exchange is one request on its way through the Handler.
type exchange struct {
	*Handler
	request request
	channel *channel.Channel // nil until it was resolved
	bytes   int              // of the body, as far as it was read
	unread  bool             // more of the body was not than is worth reading
}

// handle makes the answer to a request.
func (h *Handler) handle(r request) answer {
	start := time.Now()
	x := exchange{Handler: h, request: r}
	a := x.serve()
	if h.Observe != nil {
		h.Observe(x.channel, a.status, x.bytes, time.Since(start))
	}
	return a
}

func (x *exchange) serve() answer {
	switch x.request.Method() {
	case http.MethodPost:
	case http.MethodOptions:
		// The handshake of CloudEvents' webhook abuse protection, section 4.2.
		return answer{status: http.StatusOK, allow: true, handshake: true}
	default:
		return answer{status: http.StatusMethodNotAllowed, allow: true, text: "want POST, with an event"}
	}
	if err := x.accept(); err != nil {
		return x.refuse(err)
	}
	return answer{status: http.StatusAccepted}
}

// accept returns nil when the event is durable.
func (x *exchange) accept() error {
	x.unread = x.request.Length() < 0 || x.request.Length() > drained
	// The table is not held while a client takes its time to send: it would
	// keep alive what was removed from it.
	view := x.Dispatcher.Hold()
	c, err := resolve(view, x.request)
	view.Release()
	if err != nil {
		return err
	}
	x.channel = c
	allows, err := x.admit()
	if err != nil {
		return err
	}
	if err := x.Dispatcher.Room(c); err != nil {
		return err
	}
	b, err := x.read()
	if err != nil {
		return err
	}
	defer b.free()
	e, err := x.event(b)
	if err != nil {
		return err
	}
	if allows != nil {
		if err := allows(e); err != nil {
			return err
		}
	}
	size, large := event.RecordSize(e), x.Payloads != nil && (b.more || len(e.Data) > x.Payloads.Threshold())
	if large {
		size -= len(e.Data)
	}
	if size > x.MaxEventBytes {
		return tooLarge(int64(size), int64(x.MaxEventBytes))
	}
	if large {
		if err := x.store(e, b); err != nil {
			return err
		}
	}
	return x.publish(e)
}

// admit asks whether the sender may be heard at all.
func (x *exchange) admit() (func(*event.Event) error, error) {
	if x.Admit == nil {
		return nil, nil
	}
	var authorization string
	for name, value := range x.request.Fields {
		if strings.EqualFold(name, "authorization") {
			authorization = value
			break
		}
	}
	return x.Admit(x.request.Context(), x.channel, authorization)
}

// limits of a request's body: what belongs into memory, and what is taken at all.
func (x *exchange) limits() (memory int, all int64) {
	memory = cmp.Or(x.MaxBodyBytes, x.MaxEventBytes)
	length := x.request.Length()
	if x.Payloads == nil || length >= 0 && length <= int64(x.Payloads.Threshold()) {
		return memory, int64(memory)
	}
	// What is in structured mode must be understood before it is stored.
	if event.IsStructured(x.request.Fields) {
		return memory, int64(memory)
	}
	return min(memory, x.Payloads.Threshold()), x.Payloads.Limit()
}

// event is the event in a body, or what the header says of it if its data has
// yet to be read.
func (x *exchange) event(b *body) (*event.Event, error) {
	if b.more {
		return event.FromHTTP(x.request.Fields, nil)
	}
	return event.FromHTTP(x.request.Fields, b.bytes)
}

// publish looks for the channel again: the table may have changed meanwhile.
func (x *exchange) publish(e *event.Event) error {
	view := x.Dispatcher.Hold()
	defer view.Release()
	c, err := resolve(view, x.request)
	if err != nil {
		x.Dispatcher.Discard(e)
		return err
	}
	return x.Dispatcher.Publish(x.request.Context(), c, e)
}
