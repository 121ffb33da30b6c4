package claimcheck

import "time"

// Observer is told what a Checkroom does, for metrics. Its methods are called by
// many goroutines and must not block.
type Observer interface {
	// Stored: a payload of size bytes is in the store.
	Stored(size int64, took time.Duration)
	// Fetched: n bytes of payload were handed out; whole tells whether they were
	// all of it, in one stream. From where, from the store or from memory, is not told.
	Fetched(n int64, whole bool)
	// Reused: a payload was not stored, as it was there already.
	Reused(size int64)
	// Deleted: a payload was deleted before its time, as nobody needs it any more.
	Deleted(size int64)
	// Swept: an object whose time was over was deleted.
	Swept(size int64)
	// Failed: err came of op.
	Failed(op Op, err error)
}

// Op is what a Checkroom does.
type Op string

// The operations that can fail.
const (
	OpStore  Op = "store"
	OpFetch  Op = "fetch"
	OpRenew  Op = "renew"
	OpDelete Op = "delete"
	OpSweep  Op = "sweep"
)

// unobserved is used when there is no Observer.
type unobserved struct{}

func (unobserved) Stored(int64, time.Duration) {}
func (unobserved) Fetched(int64, bool)         {}
func (unobserved) Reused(int64)                {}
func (unobserved) Deleted(int64)               {}
func (unobserved) Swept(int64)                 {}
func (unobserved) Failed(Op, error)            {}
