package egress

import (
	"encoding/base64"
	"net/http"
	"strconv"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// The extensions of a dead letter (CONTRACT 7).
const (
	errorDest = "knativeerrordest"
	errorCode = "knativeerrorcode"
	errorData = "knativeerrordata"

	// maxErrorData bounds knativeerrordata, in characters of base64.
	maxErrorData = 1024
)

// DeadLetter is e with the reason why it is one: the URL that failed, the
// status it answered (500 where no answer came) and the beginning of the body.
// e itself is not changed.
func DeadLetter(e *event.Event, dest string, r Result) *event.Event {
	status := r.Status
	if status == 0 {
		status = http.StatusInternalServerError
	}
	attrs := []event.Attribute{
		{Name: errorDest, Value: dest},
		{Name: errorCode, Value: strconv.Itoa(status)},
	}
	if len(r.Body) > 0 {
		// Cut before encoding, at what fits: cut base64 does not decode.
		body := r.Body[:min(len(r.Body), base64.StdEncoding.DecodedLen(maxErrorData))]
		attrs = append(attrs, event.Attribute{Name: errorData, Value: base64.StdEncoding.EncodeToString(body)})
	}
	return e.With(attrs...)
}
