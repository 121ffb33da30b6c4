package egress

import (
	"context"
	"time"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// Request is one event for one target.
type Request struct {
	Target *Target
	Event  *event.Event
	// Namespace is the Subscription's, for the Kn-Namespace header.
	Namespace string
	// PreferReply sends "Prefer: reply": the target is a subscriber.
	PreferReply bool
}

// Result is what came of an attempt, or of the last one of several.
type Result struct {
	// Status is the HTTP status, 0 if no complete response came.
	Status int
	// Reply is the event that a 2xx other than 202 carried, or nil.
	Reply *event.Event
	// Body is the beginning of a failing response's body, at most
	// MaxErrorBody bytes.
	Body []byte
	// RetryAfter is what a 429 or 503 asked for; 0 if it did not.
	RetryAfter time.Duration
	// Attempts made so far, those before this process included.
	Attempts int
	// Err is nil exactly if Status is a 2xx and its body was understood or
	// is none of our business.
	Err error
}

// MaxErrorBody bounds Result.Body, in bytes.
const MaxErrorBody = 1024

// Tried is what was tried already when a delivery begins: nothing, or what a
// chain saw before it spilled the event.
type Tried struct {
	// Attempts made. The policy's first pause has been waited for when
	// NotBefore has passed.
	Attempts  int
	NotBefore time.Time
	// Last is the outcome of the last of them, without a Reply.
	Last Result
}

// Sender makes attempts; *Client is one, and simulations have their own.
type Sender interface {
	// Send makes one attempt. timeout limits it; ctx may end it sooner.
	Send(ctx context.Context, r *Request, format Format, timeout time.Duration) Result
}
