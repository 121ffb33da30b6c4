package membackend

import (
	"context"
	"errors"
	"fmt"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// Backend is one process's connection to a Store.
type Backend struct {
	store *Store
	// The store's lock guards these.
	subs   map[*subscription]struct{}
	cut    bool
	closed bool
}

var _ backend.Backend = (*Backend)(nil)

// New makes a Store and a connection to it.
func New(o Options) *Backend { return NewStore(o).Connect() }

// Connect makes one more connection.
func (s *Store) Connect() *Backend {
	return &Backend{store: s, subs: make(map[*subscription]struct{})}
}

// usable is called with the store's lock held.
func (b *Backend) usable() error {
	switch {
	case b.closed:
		return backend.ErrClosed
	case b.cut:
		return fmt.Errorf("connection cut: %w", backend.ErrUnavailable)
	}
	return nil
}

// do runs f under the store's lock if the connection is usable.
func (b *Backend) do(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return errors.Join(err, backend.ErrUnavailable)
	}
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	if err := b.usable(); err != nil {
		return err
	}
	return f()
}

// EnsureLog implements backend.Admin.
func (b *Backend) EnsureLog(ctx context.Context, l backend.Log) (backend.Incarnation, error) {
	var i backend.Incarnation
	err := b.do(ctx, func() error {
		i = b.store.ensureLog(l)
		return nil
	})
	return i, err
}

// DeleteLog implements backend.Admin.
func (b *Backend) DeleteLog(ctx context.Context, log string) error {
	return b.do(ctx, func() error {
		b.store.deleteLog(log)
		return nil
	})
}

// EnsureGroup implements backend.Admin.
func (b *Backend) EnsureGroup(ctx context.Context, log string, g backend.Group) error {
	return b.do(ctx, func() error {
		l, err := b.store.log(log)
		if err == nil && l.groups[g.Name] == nil {
			l.groups[g.Name] = new(group)
		}
		return err
	})
}

// DeleteGroup implements backend.Admin.
func (b *Backend) DeleteGroup(ctx context.Context, log, name string) error {
	return b.do(ctx, func() error {
		l, _, err := b.store.group(log, name)
		if err == nil {
			b.store.deleteGroup(l, name)
		}
		return nil // none is what was asked for
	})
}

// Seal implements backend.Admin.
func (b *Backend) Seal(ctx context.Context, log string) error {
	return b.do(ctx, func() error {
		l, err := b.store.log(log)
		if err == nil {
			l.sealed = true
		}
		return err
	})
}

// Lag implements backend.Admin.
func (b *Backend) Lag(ctx context.Context, log, name string) (backend.Lag, error) {
	var lag backend.Lag
	err := b.do(ctx, func() error {
		_, g, err := b.store.group(log, name)
		if err != nil {
			return err
		}
		lag.Records = int64(len(g.pending))
		if len(g.pending) > 0 {
			lag.Oldest = g.pending[0].rec.stored
		}
		return nil
	})
	return lag, err
}

// Publish implements backend.Publisher.
func (b *Backend) Publish(ctx context.Context, log string, r *backend.Record) error {
	return b.do(ctx, func() error { return b.store.publish(log, r) })
}

// Room implements backend.Publisher. All logs share Options.MaxBytes.
func (b *Backend) Room(string) error {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	return b.store.full()
}

// Limits implements backend.Backend.
func (b *Backend) Limits() backend.Limits {
	return backend.Limits{MaxRecordBytes: b.store.opts.MaxRecordBytes}
}

// Close implements backend.Backend.
func (b *Backend) Close(context.Context) error {
	b.Kill()
	return nil
}

// Kill ends the connection without a word, as the death of its process does:
// what its members hold goes to others, and its calls fail with ErrClosed.
func (b *Backend) Kill() {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	b.closed = true
	b.drop()
	clear(b.subs)
}

// Cut breaks the connection until Mend: publishes fail with ErrUnavailable,
// and what its members hold goes back.
func (b *Backend) Cut() {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	b.cut = true
	b.drop()
}

// Mend ends a Cut.
func (b *Backend) Mend() {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	b.cut = false
	b.store.wake()
}

func (b *Backend) drop() {
	for s := range b.subs {
		b.store.leave(s.group, s)
	}
	b.store.wake()
}
