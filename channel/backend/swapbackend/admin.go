package swapbackend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// EnsureLog implements backend.Admin. The incarnation is that of the log's home.
func (b *Backend) EnsureLog(ctx context.Context, l backend.Log) (backend.Incarnation, error) {
	p := b.Place(l.Name)
	m, err := b.on(p.Home)
	if err != nil {
		return "", err
	}
	i, err := m.EnsureLog(ctx, l)
	if err != nil || p.Next == "" {
		return i, err
	}
	if m, err = b.on(p.Next); err != nil {
		return "", err
	}
	_, err = m.EnsureLog(ctx, l)
	return i, err
}

// EnsureGroup implements backend.Admin: wherever new records may go to, the group
// is there.
func (b *Backend) EnsureGroup(ctx context.Context, log string, g backend.Group) error {
	for {
		p := b.Place(log)
		names := []string{p.Home}
		if p.Next != "" {
			names = append(names, p.Next)
		}
		for _, name := range names {
			m, err := b.on(name)
			if err == nil {
				err = m.EnsureGroup(ctx, log, g)
			}
			if err != nil {
				return err
			}
		}
		if b.Place(log).Equal(p) {
			return nil
		}
	}
}

// DeleteLog implements backend.Admin.
func (b *Backend) DeleteLog(ctx context.Context, log string) error {
	members, err := b.at(log)
	if err != nil {
		return err
	}
	for _, m := range members {
		if err := m.DeleteLog(ctx, log); err != nil {
			return err
		}
	}
	b.mu.Lock()
	delete(b.places, log)
	delete(b.former, log)
	over := slices.Collect(maps.Keys(b.subs[log]))
	for _, s := range over {
		s.over.Store(true)
	}
	b.mu.Unlock()
	for _, s := range over {
		s.finish()
	}
	return nil
}

// DeleteGroup implements backend.Admin.
func (b *Backend) DeleteGroup(ctx context.Context, log, group string) error {
	members, err := b.at(log)
	if err != nil {
		return err
	}
	for _, m := range members {
		if err := m.DeleteGroup(ctx, log, group); err != nil {
			return err
		}
	}
	return nil
}

// Seal implements backend.Admin: wherever new records may go to, none is taken.
func (b *Backend) Seal(ctx context.Context, log string) error {
	p := b.Place(log)
	for _, name := range []string{p.Next, p.Home} {
		if name == "" {
			continue
		}
		m, err := b.on(name)
		if err == nil {
			err = m.Seal(ctx, log)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Lag implements backend.Admin: of all places together.
func (b *Backend) Lag(ctx context.Context, log, group string) (backend.Lag, error) {
	members, err := b.at(log)
	if err != nil {
		return backend.Lag{}, err
	}
	var sum backend.Lag
	found := false
	for _, m := range members {
		lag, err := m.Lag(ctx, log, group)
		if errors.Is(err, backend.ErrNotFound) {
			continue // a group that was made after its log had moved
		}
		if err != nil {
			return backend.Lag{}, err
		}
		found = true
		sum.Records += lag.Records
		if !lag.Oldest.IsZero() && (sum.Oldest.IsZero() || lag.Oldest.Before(sum.Oldest)) {
			sum.Oldest = lag.Oldest
		}
	}
	if !found {
		return sum, fmt.Errorf("group %s of log %s: %w", group, log, backend.ErrNotFound)
	}
	return sum, nil
}

// Prepare makes a log and its groups on a member that it is to move to. It may be
// repeated. Nothing changes for those who use the log.
func (b *Backend) Prepare(ctx context.Context, l backend.Log, groups []string, to string) error {
	m, err := b.on(to)
	if err != nil {
		return err
	}
	if _, err := m.EnsureLog(ctx, l); err != nil {
		return fmt.Errorf("make log %s on backend %s: %w", l.Name, to, err)
	}
	for _, g := range groups {
		if err := m.EnsureGroup(ctx, l.Name, backend.Group{Name: g}); err != nil {
			return fmt.Errorf("make group %s of log %s on backend %s: %w", g, l.Name, to, err)
		}
	}
	return nil
}

// SealAt makes a log take no more records on one member. A log that is not there
// takes none.
func (b *Backend) SealAt(ctx context.Context, log, member string) error {
	m, err := b.on(member)
	if err == nil {
		err = m.Seal(ctx, log)
	}
	if err != nil && !errors.Is(err, backend.ErrNotFound) {
		return fmt.Errorf("seal log %s on backend %s: %w", log, member, err)
	}
	return nil
}

// Drained tells whether the groups have settled all that a log has on a member.
// That stays so once the log was sealed there.
func (b *Backend) Drained(ctx context.Context, log string, groups []string, member string) (bool, error) {
	m, err := b.on(member)
	if err != nil {
		return false, err
	}
	for _, g := range groups {
		lag, err := m.Lag(ctx, log, g)
		if errors.Is(err, backend.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("lag of group %s of log %s on backend %s: %w", g, log, member, err)
		}
		if lag.Records > 0 {
			return false, nil
		}
	}
	return true, nil
}

// Forget deletes a log on a member that it has left.
func (b *Backend) Forget(ctx context.Context, log, member string) error {
	m, err := b.on(member)
	if err == nil {
		err = m.DeleteLog(ctx, log)
	}
	if err != nil {
		return fmt.Errorf("delete log %s on backend %s: %w", log, member, err)
	}
	return nil
}

// Joined tells whether this process is where the log's place says: all open
// subscriptions receive from it, and nobody publishes by a former one.
func (b *Backend) Joined(log string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held(log) {
		return false
	}
	delete(b.former, log)
	for s := range b.subs[log] {
		if !s.joined() {
			return false
		}
	}
	return true
}
