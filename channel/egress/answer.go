package egress

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// answer is a complete response, whichever client read it.
type answer struct {
	status     int
	retryAfter string
	header     []event.Attribute
	body       []byte // the event's to keep, if it is one
	// reply is the event, if its data is too large for memory; body has
	// nothing then.
	reply *event.Event
	// tooBig says which limit a reply exceeds, "" if it exceeds none.
	tooBig string
}

// mayReply tells whether a status may come with a reply. 202 means accepted: its
// body, if any, is not the answer.
func mayReply(status int) bool {
	return status >= 200 && status <= 299 && status != http.StatusAccepted && status != http.StatusNoContent
}

// maxDrain bounds what is read of a body for the connection's sake alone.
const maxDrain = 64 << 10

// readStart reads the first MaxErrorBody bytes of a body that is no reply; length
// is negative if it is not known. The status has decided already, so that a body
// without end must not hold up the attempt. end tells whether r was read to its
// end, and the connection can be used again.
func readStart(r io.Reader, length int64) (start []byte, end bool, err error) {
	most := int64(MaxErrorBody)
	if length >= 0 {
		most = min(most, length)
	}
	start, err = io.ReadAll(io.LimitReader(r, most))
	n := int64(len(start))
	switch {
	case err != nil:
		return nil, false, err
	case length < 0:
		return start, n < most, nil
	case n < most:
		return nil, false, io.ErrUnexpectedEOF
	case length > maxDrain:
		return start, false, nil
	}
	_, err = io.CopyN(io.Discard, r, length-n)
	return start, err == nil, nil
}

// result decides what a response to an event means (CONTRACT 7).
func result(a answer, sent *event.Event) Result {
	r := Result{Status: a.status}
	if a.status < 200 || a.status > 299 {
		r.Body = append([]byte(nil), a.body[:min(len(a.body), MaxErrorBody)]...)
		r.RetryAfter = retryAfter(a.status, a.retryAfter, time.Now())
		r.Err = fmt.Errorf("%w: status %d", ErrStatus, a.status)
		return r
	}
	if !mayReply(a.status) {
		return r
	}
	if a.tooBig != "" {
		r.Err = fmt.Errorf("%w: %s", ErrReply, a.tooBig)
		return r
	}
	if a.reply != nil {
		a.reply.Continue(sent)
		r.Reply = a.reply
		return r
	}
	reply, err := event.FromFields(a.header, a.body)
	switch {
	case err == nil:
		reply.Continue(sent)
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
