package egress

import (
	"errors"
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// answer is a complete response, whichever client read it.
type answer struct {
	status     int
	retryAfter string
	header     iter.Seq2[string, string]
	body       []byte
	// tooLarge: the body exceeds MaxReplyBytes; what body holds is not all.
	tooLarge bool
	// own returns the body for an event to keep.
	own func([]byte) []byte
}

// result decides what a response means (CONTRACT 7).
func result(a answer) Result {
	r := Result{Status: a.status}
	if a.status < 200 || a.status > 299 {
		r.Body = append([]byte(nil), a.body[:min(len(a.body), MaxErrorBody)]...)
		r.RetryAfter = retryAfter(a.status, a.retryAfter, time.Now())
		r.Err = fmt.Errorf("%w: status %d", ErrStatus, a.status)
		return r
	}
	// 202 means accepted: its body, if any, is not the answer.
	if a.status == http.StatusAccepted || a.status == http.StatusNoContent {
		return r
	}
	if a.tooLarge {
		r.Err = fmt.Errorf("%w: larger than the limit", ErrReply)
		return r
	}
	reply, err := event.FromHTTP(a.header, a.body)
	switch {
	case err == nil:
		reply.Data = a.own(reply.Data)
		r.Reply = reply
	case errors.Is(err, event.ErrNotCloudEvent):
		// A success that answers something else, or nothing.
	default:
		// It says it is an event and is none that anybody could take on.
		// Dropping it would end the flow unseen; a dead letter shows it.
		r.Err = fmt.Errorf("%w: %w", ErrReply, err)
	}
	return r
}
