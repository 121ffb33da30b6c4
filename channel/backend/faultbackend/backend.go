package faultbackend

import (
	"context"
	"fmt"
	"sync"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// Backend is a backend whose calls meet the faults of a plan.
type Backend struct {
	inner backend.Backend

	mu     sync.Mutex
	closed bool
	plan   Plan
	calls  [ops]int
	faults [ops]int
}

var _ backend.Backend = (*Backend)(nil)

// New wraps inner, which it closes when it is closed itself.
func New(inner backend.Backend, plan Plan) *Backend { return &Backend{inner: inner, plan: plan} }

// Unwrap returns the backend beneath.
func (b *Backend) Unwrap() backend.Backend { return b.inner }

// SetPlan replaces the plan. Counting goes on.
func (b *Backend) SetPlan(plan Plan) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.plan = plan
}

// Calls is how many calls of an operation there were.
func (b *Backend) Calls(op Op) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls[op]
}

// Faults is how many of them did not simply pass.
func (b *Backend) Faults(op Op) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.faults[op]
}

func (b *Backend) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// next counts a call and asks the plan about it.
func (b *Backend) next(op Op, log, group string) (Call, Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls[op]++
	c := Call{Op: op, N: b.calls[op], Log: log, Group: group}
	if b.plan == nil {
		return c, Fault{}
	}
	f := b.plan(c)
	if f.Do != Pass || f.Delay > 0 {
		b.faults[op]++
	}
	return c, f
}

// call asks the plan and has do happen as it says; see Fault.apply.
func (b *Backend) call(ctx context.Context, op Op, log, group string, do, again func() error) error {
	c, f := b.next(op, log, group)
	if !f.wait(ctx.Done()) {
		return fmt.Errorf("%s: %w: %w", op, ctx.Err(), backend.ErrUnavailable)
	}
	return f.apply(c, do, again)
}

// apply has do happen as often as the fault wants; again is what happens the
// second time, do if it is nil.
func (f Fault) apply(c Call, do, again func() error) error {
	switch f.Do {
	case Fail:
		return f.error(c)
	case Drop:
		return nil
	}
	if err := do(); err != nil {
		return err
	}
	switch {
	case f.Do == LoseConfirmation:
		return f.error(c)
	case f.Do == Duplicate && again != nil:
		return again()
	case f.Do == Duplicate:
		return do()
	}
	return nil
}

// EnsureLog implements backend.Admin.
func (b *Backend) EnsureLog(ctx context.Context, l backend.Log) (i backend.Incarnation, err error) {
	err = b.call(ctx, EnsureLog, l.Name, "", func() (err error) {
		i, err = b.inner.EnsureLog(ctx, l)
		return err
	}, nil)
	if err != nil {
		return "", err
	}
	return i, nil
}

// DeleteLog implements backend.Admin.
func (b *Backend) DeleteLog(ctx context.Context, log string) error {
	return b.call(ctx, DeleteLog, log, "", func() error { return b.inner.DeleteLog(ctx, log) }, nil)
}

// EnsureGroup implements backend.Admin.
func (b *Backend) EnsureGroup(ctx context.Context, log string, g backend.Group) error {
	return b.call(ctx, EnsureGroup, log, g.Name, func() error { return b.inner.EnsureGroup(ctx, log, g) }, nil)
}

// DeleteGroup implements backend.Admin.
func (b *Backend) DeleteGroup(ctx context.Context, log, group string) error {
	return b.call(ctx, DeleteGroup, log, group, func() error { return b.inner.DeleteGroup(ctx, log, group) }, nil)
}

// Seal implements backend.Admin.
func (b *Backend) Seal(ctx context.Context, log string) error {
	return b.call(ctx, Seal, log, "", func() error { return b.inner.Seal(ctx, log) }, nil)
}

// Lag implements backend.Admin.
func (b *Backend) Lag(ctx context.Context, log, group string) (lag backend.Lag, err error) {
	err = b.call(ctx, Lag, log, group, func() (err error) {
		lag, err = b.inner.Lag(ctx, log, group)
		return err
	}, nil)
	if err != nil {
		return backend.Lag{}, err
	}
	return lag, nil
}

// Publish implements backend.Publisher.
func (b *Backend) Publish(ctx context.Context, log string, r *backend.Record) error {
	return b.call(ctx, Publish, log, "", func() error { return b.inner.Publish(ctx, log, r) }, func() error {
		twin := *r
		twin.Dedup = ""
		return b.inner.Publish(ctx, log, &twin)
	})
}

// Room implements backend.Publisher. It heeds Fail and LoseConfirmation only.
func (b *Backend) Room(log string) error {
	switch c, f := b.next(Room, log, ""); f.Do {
	case Fail, LoseConfirmation:
		return f.error(c)
	}
	return b.inner.Room(log)
}

// Limits implements backend.Backend.
func (b *Backend) Limits() backend.Limits { return b.inner.Limits() }

// Close implements backend.Backend.
func (b *Backend) Close(ctx context.Context) error {
	return b.call(ctx, Close, "", "", func() error {
		b.mu.Lock()
		b.closed = true
		b.mu.Unlock()
		return b.inner.Close(ctx)
	}, nil)
}
