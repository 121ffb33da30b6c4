package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// step handles an event. path is that of the request. A *refusal as the error
// chooses the status; any other is the step's own trouble, a 500.
type step func(ctx context.Context, path string, in cloudevents.Event) (outcome, error)

// outcome is what came of an event.
type outcome struct {
	event *cloudevents.Event // the answer, or nil for none
	note  string             // for people
	file  string             // that was written
	bytes int                // in file
}

// refusal is an error that the sender gets to see with its status.
type refusal struct {
	status int
	reason string
}

func (r *refusal) Error() string { return r.reason }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// stepNames are in the order of their ports.
func stepNames() []string {
	return []string{
		"resize", "caption", "frame", "collect", "sort", "flaky", "sepia", "album", "lost", "probe", "poster", "gallery",
	}
}

// steps by their names; what they collect goes into folders beneath out.
func steps(out string) map[string]step {
	collect := func(folder string) step { return (&collector{folder: filepath.Join(out, folder)}).step }
	return map[string]step{
		"resize":  picture("resized", resize),
		"caption": picture("captioned", caption),
		"frame":   picture("framed", frame),
		"collect": collect("pics"),
		"sort":    sortByShape,
		"flaky":   (&flaky{tried: make(map[string]int), step: picture("framed", frame)}).handle,
		"sepia":   picture("toned", sepia),
		"album":   collect("prints"),
		"lost":    collect("lost"),
		"probe":   probe,
		"poster":  poster,
		"gallery": collect("films"),
	}
}

// maxEventBytes bounds what a step reads of a request.
const maxEventBytes = 32 << 20

// handler makes an HTTP handler of a step, with the SDK's codec. (The SDK's
// receiver hands an event to the goroutine of any request that is under way,
// whose context may end before the event's own.)
func handler(name string, do step, p *printer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxEventBytes)
		in, err := cloudevents.NewEventFromHTTPRequest(r)
		if err == nil {
			err = in.Validate()
		}
		if err != nil {
			http.Error(w, "want a CloudEvent: "+err.Error(), http.StatusBadRequest)
			return
		}
		began := time.Now()
		ctx := withClaim(r.Context(), r.Header.Get(claimHeader) != "")
		out, err := do(ctx, r.URL.Path, *in)
		p.handled(name, *in, began, out, err)
		var refused *refusal
		switch {
		case errors.As(err, &refused):
			http.Error(w, refused.reason, refused.status)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case out.event == nil:
			w.WriteHeader(http.StatusAccepted)
		default:
			// An error means that the client has gone.
			_ = cehttp.WriteResponseWriter(r.Context(), binding.ToMessage(out.event), http.StatusOK, w)
		}
	})
}
