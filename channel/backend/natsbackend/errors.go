package natsbackend

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// Codes of the JetStream API that mean something to us
// (nats-server, server/errors.json).
const (
	codeInsufficientResources = 10023
	codeNoSpace               = 10047
	codeTooLarge              = 10054
	codeStoreFailed           = 10077
	codeWrongLastSequence     = 10071
	codeWrongLastConstant     = 10164 // the same, from a stream with replicas
	codeConsumerExists        = 10148
	codeConsumerNameExists    = 10013
)

// apiError turns what the JetStream API answered into one of the backend's.
func apiError(code int, text string) error {
	switch code {
	case codeTooLarge:
		return fmt.Errorf("%s: %w", text, backend.ErrTooLarge)
	case codeNoSpace, codeInsufficientResources:
		return fmt.Errorf("%s: %w", text, backend.ErrFull)
	case codeStoreFailed:
		if strings.Contains(text, "maximum") || strings.Contains(text, "no space") {
			return fmt.Errorf("%s: %w", text, backend.ErrFull)
		}
	}
	return fmt.Errorf("%s (%d): %w", text, code, backend.ErrUnavailable)
}

// adminError wraps an error of an administrative call with what was attempted.
func adminError(what string, err error) error {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, backend.ErrUnavailable), errors.Is(err, backend.ErrNotFound),
		errors.Is(err, backend.ErrClosed), errors.Is(err, backend.ErrSealed):
		return fmt.Errorf("%s: %w", what, err)
	case errors.As(err, &api):
		return fmt.Errorf("%s: %w", what, apiError(int(api.ErrorCode), api.Description))
	case errors.Is(err, nats.ErrConnectionClosed):
		return fmt.Errorf("%s: %w", what, backend.ErrClosed)
	}
	return fmt.Errorf("%s: %w", what, errors.Join(err, backend.ErrUnavailable))
}

func hasCode(err error, code int) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && int(api.ErrorCode) == code
}

// contextError is the end of a call whose outcome is not known.
func contextError(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != err { //nolint:errorlint // the same value, or not
		err = errors.Join(err, cause)
	}
	return errors.Join(err, backend.ErrUnavailable)
}
