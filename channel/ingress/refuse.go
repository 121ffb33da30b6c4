package ingress

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/event"
)

// How long a client is asked to wait. A full backend takes longer to get room
// than a broker to come back.
const (
	retryAfter     = time.Second
	retryAfterFull = 5 * time.Second
)

// refusal is an answer other than 202.
type refusal struct {
	status int
	text   string
	// retryAfter is 0 where coming again as it is will not help.
	retryAfter time.Duration
}

func (r refusal) Error() string { return r.text }

// Refuse is the error of a Handler.Admit that lets nobody in; text is for the
// sender.
func Refuse(status int, text string) error { return refusal{status: status, text: text} }

func tooLarge(size, limit int64) refusal {
	return refusal{
		status: http.StatusRequestEntityTooLarge,
		text:   fmt.Sprintf("the event has %d bytes: at most %d are accepted", size, limit),
	}
}

// refuse is the answer that err calls for.
func (x *exchange) refuse(err error) answer {
	r := classify(err, x.MaxEventBytes)
	// To net/http a client that was too slow has gone, too.
	if x.request.Context().Err() != nil && r.status != http.StatusRequestTimeout {
		return answer{status: statusClientGone}
	}
	return answer{
		status: r.status, text: r.text, retryAfter: r.retryAfter,
		// As http.MaxBytesReader does: or else a server waits for more of
		// the body, to keep the connection, before it answers.
		closing: r.status == http.StatusRequestEntityTooLarge || x.unread,
	}
}

// classify is the table of CONTRACT section 6 for what can go wrong. The texts
// tell a client what it can act on, and nothing about the inside.
func classify(err error, limit int) refusal {
	var r refusal
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, event.ErrNotCloudEvent), errors.Is(err, event.ErrInvalid), errors.Is(err, event.ErrBatch):
		return refusal{status: http.StatusBadRequest, text: err.Error()}
	case errors.Is(err, backend.ErrTooLarge):
		return refusal{
			status: http.StatusRequestEntityTooLarge,
			text:   fmt.Sprintf("the event is too large for the backend: at most %d bytes are accepted", limit),
		}
	case errors.Is(err, backend.ErrNotFound):
		return refusal{status: http.StatusNotFound, text: "the channel is being removed"}
	case errors.Is(err, backend.ErrFull):
		return refusal{
			status:     http.StatusServiceUnavailable,
			text:       "the backend is full; the event was not stored",
			retryAfter: retryAfterFull,
		}
	}
	if errors.Is(err, event.ErrPayloadUnavailable) {
		return refusal{
			status:     http.StatusServiceUnavailable,
			text:       "the store for large payloads is unavailable or full; events below the threshold are accepted",
			retryAfter: retryAfterFull,
		}
	}
	// ErrUnavailable, ErrSealed (the log is about to move), ErrClosed, and
	// whatever else keeps an event from being stored.
	return refusal{
		status:     http.StatusServiceUnavailable,
		text:       "the backend did not confirm the event; send it again",
		retryAfter: retryAfter,
	}
}
