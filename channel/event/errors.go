package event

import (
	"errors"
	"fmt"
)

// The errors of decoding. Their texts say what was wrong and what is right, and
// may be shown to whoever sent the message.
var (
	// ErrNotCloudEvent: the message is in none of the CloudEvents modes.
	ErrNotCloudEvent = errors.New("not a CloudEvent: neither a ce-specversion header " +
		"(binary mode) nor Content-Type: " + StructuredContentType + " (structured mode)")
	// ErrBatch: batched mode is not for channels.
	ErrBatch = errors.New("batched CloudEvents are not supported: send one event per request")
	// ErrInvalid: the message says that it is a CloudEvent and breaks its rules.
	ErrInvalid = errors.New("invalid CloudEvent")
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}
