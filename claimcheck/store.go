package claimcheck

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// What a store, and all that is built on one, says by its errors. They are
// wrapped: use errors.Is.
var (
	// ErrNotFound: there is no such object, or it is no longer there.
	ErrNotFound = errors.New("payload not found")
	// ErrUnavailable: the store cannot be reached, or refuses. Try again later.
	ErrUnavailable = errors.New("payload store unavailable")
	// ErrFull: the store has no room. Try again when it has been given some.
	ErrFull = errors.New("payload store full")
	// ErrTooLarge: the payload is larger than its limit.
	ErrTooLarge = errors.New("payload too large")
	// ErrCorrupt: what is stored is not what was put there.
	ErrCorrupt = errors.New("stored payload corrupted")
	// ErrName: not a name for an object, see ValidName.
	ErrName = errors.New("invalid object name")
)

// Object is what a store tells of one of its objects.
type Object struct {
	Name     string
	Size     int64
	Modified time.Time
	// Partial is set for what a Put that was killed left behind. It cannot be
	// opened; Delete takes its name.
	Partial bool
}

// Chunked is a reader whose bytes are at hand: they need not be copied to be written.
// The reader of a Store's Put may be one, and what Checkroom.Open returns is.
type Chunked interface {
	// Next is what comes next, at least one byte of it and no more than most, until the
	// next call of any method. The error is one that Read would return; then there is
	// nothing.
	Next(most int) ([]byte, error)
}

// Buffering is a Store whose Put takes so much memory that it counts.
type Buffering interface {
	// PutMemory is how many bytes a Put of an object of so many takes meanwhile, at
	// most, beside what all share; length is negative if it is not known.
	PutMemory(length int64) int64
}

// Store keeps objects under names. Objects are written once and never changed.
//
// All methods may be called by many goroutines at once. They use memory that
// does not grow with the size of an object. They do not retry for long: who
// calls them knows how long the event can wait.
//
// Errors of the store itself are ErrNotFound, ErrUnavailable or ErrFull, with
// the cause wrapped; errors of a reader that was handed in, and of a context that
// ended, are handed back as they are.
type Store interface {
	// Put writes what r yields until io.EOF. The object is there, whole, when
	// Put returns nil, and not before; if r fails, or ctx ends, nothing is left
	// of it. A name that has an object is given the new one in one step.
	//
	// Put looks at ctx between two reads: a read from r must end by itself.
	Put(ctx context.Context, name string, r io.Reader) error

	// Open reads length bytes from offset on, or all from there if length is
	// negative. What reaches beyond the end of the object is left out.
	// ErrNotFound comes from Open; other faults may come while reading. The
	// reader must be closed, and is of no use when ctx has ended.
	Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)

	// Delete removes an object. A missing one is no error.
	Delete(ctx context.Context, name string) error

	// List yields the objects whose names begin with prefix, in no order,
	// and what interrupted Puts of such names left (for stores where that has
	// no name yet: only if prefix is empty). Objects put or deleted meanwhile may
	// be in it or not. After an error nothing more is yielded.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]

	// Close ends the use of the store, and the goroutines that served it.
	Close() error
}
