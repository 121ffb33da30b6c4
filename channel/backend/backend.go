package backend

import (
	"context"
	"errors"
	"time"
)

// The errors a program may act on. Implementations wrap them with what was
// attempted; callers test with errors.Is and never look at the text.
var (
	// ErrNotFound: the log or the group does not exist (any more).
	ErrNotFound = errors.New("not found")
	// ErrTooLarge: the record exceeds Limits.MaxRecordBytes. Trying again is
	// of no use.
	ErrTooLarge = errors.New("record too large")
	// ErrSealed: the log takes no more records. Reading and acking go on.
	ErrSealed = errors.New("log sealed")
	// ErrClosed: the backend or the subscription was closed by its owner.
	ErrClosed = errors.New("closed")
	// ErrUnavailable: the broker did not confirm. The record may or may not
	// have been stored. Trying again is right, with the same Dedup.
	ErrUnavailable = errors.New("backend unavailable")
	// ErrFull: no room for more records just now (a quota, or the disk).
	// Nothing was stored. It wraps ErrUnavailable.
	ErrFull error = fullError{}
)

type fullError struct{}

func (fullError) Error() string { return "backend full" }
func (fullError) Unwrap() error { return ErrUnavailable }

// Backend is a broker that keeps logs. All methods may be called from any
// number of goroutines at once.
type Backend interface {
	Admin
	Publisher
	Subscriber

	// Limits are fixed for the life of the Backend.
	Limits() Limits

	// Close stops every subscription (their unacked records go back) and
	// frees all resources. A second Close returns nil. It does not delete
	// anything that was stored.
	Close(ctx context.Context) error
}

// Limits of what a backend accepts.
type Limits struct {
	// MaxRecordBytes bounds Record.Size.
	MaxRecordBytes int
}

// Incarnation identifies one life of a log: a random id given when the log is
// made and never reused. A log that is deleted and made again under the same
// name has another one, as has the log of the same name on another backend.
type Incarnation string

// Log describes a log to be made.
type Log struct {
	// Name is the channel's, "namespace/name". Any two distinct names are
	// distinct logs, whatever bytes they hold.
	Name string
	// Ordered logs deliver the records of one Record.Key in log order to
	// one member of a group at a time, also after that member died: its
	// unacked records come first, in order. Fixed when the log is made.
	Ordered bool
}

// Group is a cursor in a log, shared by its members. Each record of the log
// goes to each group, and within a group to one member at a time.
type Group struct {
	// Name is unique within the log; a Subscription's UID. ASCII letters,
	// digits, '-', '_' and '.'.
	Name string
}

// Admin makes and removes logs and groups. Every method is idempotent: what
// exists already is left as it is, what is missing is not an error on delete.
type Admin interface {
	// EnsureLog makes the log unless it exists and returns its incarnation.
	// A log that was sealed stays sealed.
	EnsureLog(ctx context.Context, l Log) (Incarnation, error)
	// DeleteLog removes the log, its groups and its records. It never
	// removes what EnsureLog did not make.
	DeleteLog(ctx context.Context, log string) error
	// EnsureGroup makes the group unless it exists, with an explicit start
	// position: every record whose Publish began after EnsureGroup returned
	// is delivered to it, even if the first Subscribe comes later. It gets
	// none that were published before it was made. ErrNotFound: no such log.
	EnsureGroup(ctx context.Context, log string, g Group) error
	// DeleteGroup removes the group and its position. Its subscriptions
	// end: Receive returns ErrNotFound.
	DeleteGroup(ctx context.Context, log, group string) error
	// Seal makes every Publish that begins afterwards fail with ErrSealed.
	// ErrNotFound: no such log.
	Seal(ctx context.Context, log string) error
	// Lag tells what the group has still to settle. ErrNotFound: no such
	// log or group.
	Lag(ctx context.Context, log, group string) (Lag, error)
}

// Lag is what a group has still to settle.
type Lag struct {
	// Records not acked yet, delivered or not.
	Records int64
	// Oldest is when the oldest of them was stored; zero if there is none.
	Oldest time.Time
}

// Publisher appends records.
type Publisher interface {
	// Publish returns nil when the record is durable at the broker: it
	// survives the death of any process. Concurrent calls are grouped by
	// the implementation; the order of records whose calls overlap is not
	// defined. r and what it refers to are not modified, and may be reused
	// once Publish has returned.
	//
	// When ctx ends first the record may or may not be stored; the error is
	// the context's, wrapped together with ErrUnavailable.
	//
	// Errors: ErrNotFound, ErrTooLarge, ErrSealed, ErrFull, ErrUnavailable,
	// ErrClosed.
	Publish(ctx context.Context, log string, r *Record) error

	// Room reports why a log would rather take no new records from outside
	// now (an error that wraps ErrFull), or nil. It never blocks, and does
	// not look for the log: where there is none it is a broker's answer for
	// any. Publish may still succeed then: what is left is kept for records
	// that are on their way through, so that they can be settled.
	Room(log string) error
}

// Subscriber opens cursors.
type Subscriber interface {
	// Subscribe joins a group as one more member. ErrNotFound: no such log
	// or group. The subscription outlives ctx, which bounds only the call.
	Subscribe(ctx context.Context, log, group string, o Options) (Subscription, error)
}

// Options of one member of a group.
type Options struct {
	// Window is the most records that the member may hold that are not
	// acked, counting those fetched but not received. At least 1; 0 means 64.
	Window int
	// Buffer is the most bytes of records fetched but not yet received;
	// one record may exceed it. 0 means 64 KiB.
	Buffer int
}

// Subscription is one member of a group. Its methods may be called from any
// goroutine. Broken connections are mended for ever, with backoff, without the
// caller noticing more than a pause.
type Subscription interface {
	// Receive waits for the next record. A call that ends with an error has
	// consumed nothing. Errors: the context's, ErrClosed, ErrNotFound (the
	// group or its log was deleted).
	Receive(ctx context.Context) (*Delivery, error)
	// Ack settles a delivery: it does not come back, on an orderly reopen
	// at the latest. Deliveries are acked in any order; acking twice is
	// nothing. It does not wait for the broker. What is not acked comes
	// back, to this or another member, when the subscription is closed, its
	// process dies, or its connection stays cut; never merely because the
	// holder is slow.
	Ack(d *Delivery) error
	// Close leaves the group. Unacked records go back at once. A second
	// Close is nothing.
	Close() error
}

// Rester is a Subscription that says when there is something to receive, so that
// no goroutine has to wait for that in Receive. A process with thousands of
// subscriptions, most of them idle, pays for a goroutine with its stack for each
// otherwise. It is optional: without it a caller waits in Receive.
type Rester interface {
	Subscription
	// Rest returns true only if Receive would wait now; wake is called, from any
	// goroutine, when that may have changed: a record is there, or Receive has an
	// error to return. It is called once, perhaps without need and perhaps before
	// Rest returns; not at all if Rest returns false (Receive may wait even so), or
	// once a later call of Rest has taken its place. It must not wait, nor call the
	// subscription.
	Rest(wake func()) bool
}

// Delivery is a record handed to one member. The member owns it until Ack or
// Close; Record's bytes stay valid as long as the Delivery is referenced.
type Delivery struct {
	Record
	Incarnation Incarnation
	// Partition and Offset name the record within the incarnation, for ever.
	Partition int32
	Offset    uint64
	// Redelivered: some member may have held this record before.
	Redelivered bool
	// Stored is when the broker took the record.
	Stored time.Time
	// Token belongs to the implementation.
	Token any
}
