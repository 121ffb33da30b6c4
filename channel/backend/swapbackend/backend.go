package swapbackend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// Config of a Backend.
type Config struct {
	// Home names the member that a log is made on whose place was not set.
	Home func(log string) string
	// Logger is told what is tried again; nil: nobody.
	Logger *slog.Logger
}

// Backend is a backend.Backend over its members. Each log has a Place.
type Backend struct {
	home   func(string) string
	logger *slog.Logger

	mu      sync.RWMutex
	members map[string]backend.Backend
	places  map[string]*placed
	former  map[string][]*placed // places that somebody may still publish by
	subs    map[string]map[*subscription]struct{}
	closed  bool
}

var _ backend.Backend = (*Backend)(nil)

// New makes a Backend without members.
func New(c Config) *Backend {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Backend{
		home: c.Home, logger: c.Logger,
		members: make(map[string]backend.Backend),
		places:  make(map[string]*placed),
		former:  make(map[string][]*placed),
		subs:    make(map[string]map[*subscription]struct{}),
	}
}

// Add makes m a member, which belongs to the Backend from then on: Remove or
// Close closes it.
func (b *Backend) Add(name string, m backend.Backend) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return backend.ErrClosed
	case b.members[name] != nil:
		return fmt.Errorf("add backend %q: there is one of that name", name)
	}
	b.members[name] = m
	return nil
}

// Remove closes a member that no log is placed on. One that is not there is no
// error.
func (b *Backend) Remove(ctx context.Context, name string) error {
	b.mu.Lock()
	m := b.members[name]
	if m == nil {
		b.mu.Unlock()
		return nil
	}
	for log, p := range b.places {
		if slices.Contains(p.place.All(), name) && p.place.named {
			b.mu.Unlock()
			return fmt.Errorf("remove backend %q: log %s is there", name, log)
		}
	}
	delete(b.members, name)
	b.mu.Unlock()
	return m.Close(ctx)
}

// Members are the names of the members.
func (b *Backend) Members() []string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Sorted(maps.Keys(b.members))
}

// Member is one of the members, nil if there is none of that name.
func (b *Backend) Member(name string) backend.Backend {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.members[name]
}

// Set tells where a log is from now on. Subscriptions follow; those who publish
// do from their next call on.
func (b *Backend) Set(log string, p Place) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := p.check(func(name string) bool { return b.members[name] != nil }); err != nil {
		return fmt.Errorf("place log %s: %w", log, err)
	}
	p.named = true
	if old := b.places[log]; old != nil && old.publishers.Load() > 0 {
		b.former[log] = append(b.former[log], old)
	}
	b.places[log] = &placed{place: p}
	for s := range b.subs[log] {
		s.follow()
	}
	return nil
}

// Leave forgets where a log is that this process has no more to do with.
func (b *Backend) Leave(log string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.places, log)
	delete(b.former, log)
}

// placed is a place, and how many publish by it.
type placed struct {
	place      Place
	publishers atomic.Int64
}

// Place is where a log is.
func (b *Backend) Place(log string) Place {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.place(log)
}

// place is called with b.mu held.
func (b *Backend) place(log string) Place {
	if p := b.places[log]; p != nil {
		return p.place
	}
	return Place{Home: b.home(log)}
}

// Moving is how many logs are on their way from one member to another, or have yet to
// set out.
func (b *Backend) Moving() (n int) {
	b.mu.RLock()
	places := make(map[string]Place, len(b.places))
	for log, p := range b.places {
		places[log] = p.place
	}
	b.mu.RUnlock()
	for log, p := range places {
		if p.named && (p.Moving() || p.Home != b.home(log)) {
			n++
		}
	}
	return n
}

// hold returns where a log is, for one who is to publish by it and to let go then.
// Joined waits for that: who took too long could publish to a log that has come back meanwhile
// to where it was, in front of what is elsewhere.
func (b *Backend) hold(log string) *placed {
	b.mu.RLock()
	p := b.places[log]
	if p != nil {
		p.publishers.Add(1)
	}
	b.mu.RUnlock()
	if p != nil {
		return p
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p = b.places[log]
	if p == nil {
		p = &placed{place: Place{Home: b.home(log)}}
		b.places[log] = p
	}
	p.publishers.Add(1)
	return p
}

// held tells whether anybody publishes by a place that the log had before. It is called
// with b.mu held.
func (b *Backend) held(log string) bool {
	return slices.ContainsFunc(b.former[log], func(p *placed) bool { return p.publishers.Load() > 0 })
}

// on is a member by its name.
func (b *Backend) on(name string) (backend.Backend, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	switch m := b.members[name]; {
	case b.closed:
		return nil, backend.ErrClosed
	case m == nil:
		return nil, fmt.Errorf("backend %q is not open: %w", name, backend.ErrUnavailable)
	default:
		return m, nil
	}
}

// at are the members that may have records of a log, the oldest first.
func (b *Backend) at(log string) ([]backend.Backend, error) {
	b.mu.RLock()
	p := b.place(log)
	b.mu.RUnlock()
	var all []backend.Backend
	for _, name := range p.All() {
		m, err := b.on(name)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// Publish implements backend.Publisher: the record is in one place, whatever
// moves meanwhile.
func (b *Backend) Publish(ctx context.Context, log string, r *backend.Record) error {
	for {
		p := b.hold(log)
		err := b.publish(ctx, p.place.Home, log, r)
		if left(err) && p.place.Next != "" {
			err = b.publish(ctx, p.place.Next, log, r)
		}
		p.publishers.Add(-1)
		// It may have moved since it was looked up.
		if !left(err) || b.Place(log).Equal(p.place) {
			return err
		}
	}
}

// left tells whether an error says that a log is not at home any more: it is
// sealed there, and deleted some time later.
func left(err error) bool {
	return errors.Is(err, backend.ErrSealed) || errors.Is(err, backend.ErrNotFound)
}

func (b *Backend) publish(ctx context.Context, member, log string, r *backend.Record) error {
	m, err := b.on(member)
	if err != nil {
		return err
	}
	return m.Publish(ctx, log, r)
}

// Room implements backend.Publisher: that of the member that takes the log's
// records. Another one that is full stops nobody.
func (b *Backend) Room(log string) error {
	b.mu.RLock()
	m := b.members[b.place(log).Home]
	b.mu.RUnlock()
	if m == nil {
		return nil // Publish says why
	}
	return m.Room(log)
}

// Limits implements backend.Backend. They are what every member takes.
func (b *Backend) Limits() backend.Limits {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var limits backend.Limits
	for _, m := range b.members {
		if l := m.Limits(); limits.MaxRecordBytes == 0 || l.MaxRecordBytes < limits.MaxRecordBytes {
			limits = l
		}
	}
	return limits
}

// Close implements backend.Backend: it closes all members.
func (b *Backend) Close(ctx context.Context) error {
	b.mu.Lock()
	members := b.members
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	var subs []*subscription
	for _, of := range b.subs {
		subs = slices.AppendSeq(subs, maps.Keys(of))
	}
	b.mu.Unlock()
	var errs []error
	for _, s := range subs {
		errs = append(errs, s.Close())
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		errs = append(errs, members[name].Close(ctx))
	}
	return errors.Join(errs...)
}
