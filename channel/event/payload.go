package event

import (
	"context"
	"errors"
	"io"
)

// Payload is data that is not in memory: an Event has either Data or a Payload.
// It does not change, and may be opened by several at once.
type Payload interface {
	// Size in bytes.
	Size() int64
	// Open streams it. The reader ends in io.EOF only when all that it yielded
	// was right; it must be closed, and is of no use when ctx has ended.
	// Errors, also while reading: ErrPayloadGone, ErrPayloadUnavailable.
	Open(ctx context.Context) (io.ReadCloser, error)
}

// Held is a Payload that may be in memory as well.
type Held interface {
	// Hold is all of it, which must not be changed, and not be used once it is released; nil
	// if it is not in memory.
	Hold() (data []byte, release func())
}

// Chunked may be what Open returned: its bytes are at hand, and need not be copied
// to be written.
type Chunked interface {
	// Next is what comes next, at least one byte of it and no more than most, until the
	// next call of any method. The error is one that Read would return; then there is
	// nothing.
	Next(most int) ([]byte, error)
}

// Incoming is data on its way in.
type Incoming struct {
	// Owner is the channel, "namespace/name", whose record is to carry it.
	Owner string
	// ContentType as its sender gave it.
	ContentType string
	// Head is what has been read of it, Rest yields what follows, Length is
	// what was announced, or negative. Head is the caller's again when Store
	// has returned.
	Head   []byte
	Rest   io.Reader
	Length int64
	// Same is what it may be equal to, such as the payload that a step was
	// sent; or nil.
	Same Payload
}

// PayloadStore takes in data that is too large for memory.
type PayloadStore interface {
	// Threshold is the most bytes of data that stay in memory, and in the log.
	Threshold() int
	// Limit is the most bytes of data that are taken in.
	Limit() int64
	// Store keeps the data of an event. When it fails nothing is kept.
	// Errors: those of in.Rest as they are, ErrPayloadTooLarge,
	// ErrPayloadLength, ErrPayloadSlow, ErrPayloadFull, ErrPayloadUnavailable.
	Store(ctx context.Context, in Incoming) (Payload, error)
}

// Buffering is a PayloadStore that says what memory it takes.
type Buffering interface {
	// Memory is how many bytes Store takes meanwhile for data of so many, at most; length
	// is negative if it is not known.
	Memory(length int64) int64
}

// The errors of payloads that a program may act on. They are wrapped.
var (
	// ErrPayloadUnavailable: the store cannot be reached. Try again later.
	ErrPayloadUnavailable = errors.New("payload store unavailable")
	// ErrPayloadFull: the store has no room just now. It wraps
	// ErrPayloadUnavailable.
	ErrPayloadFull error = payloadFull{}
	// ErrPayloadGone: the payload was deleted, or is not what was stored.
	ErrPayloadGone = errors.New("payload lost")
	// ErrPayloadTooLarge: it exceeds Limit.
	ErrPayloadTooLarge = errors.New("payload too large")
	// ErrPayloadLength: it has not the length that was announced.
	ErrPayloadLength = errors.New("payload has not the length that was announced")
	// ErrPayloadSlow: it took longer to come than payloads are kept, about.
	ErrPayloadSlow = errors.New("payload took too long to come")
)

type payloadFull struct{}

func (payloadFull) Error() string { return "payload store full" }
func (payloadFull) Unwrap() error { return ErrPayloadUnavailable }
