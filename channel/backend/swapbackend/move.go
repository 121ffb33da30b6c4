package swapbackend

import (
	"context"
	"fmt"
	"slices"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// Step takes a log one step nearer to a member, and returns the place that it is to
// have then: the caller writes that down, calls Set with it, and goes on with the next step
// until the place is Place{Home: to}. Every step may be repeated, also by a process that
// comes after one that died. The same place is returned when there is nothing to do
// just now.
//
// groups are all that the log has, also those that are about to be removed. All
// processes that use the log must have set its place before the next step; Joined
// tells it of this one, others are the caller's to ask.
//
// A move that has begun is finished, also when the log is wanted elsewhere by then:
// what is sealed stays sealed.
func (b *Backend) Step(ctx context.Context, l backend.Log, groups []string, to string) (Place, error) {
	p := b.Place(l.Name)
	p.Ordered = l.Ordered
	switch {
	case len(p.Former) > 0:
		return b.release(ctx, l, groups, p)
	case p.Next != "":
		// Groups that were made since.
		if err := b.Prepare(ctx, l, groups, p.Next); err != nil {
			return p, err
		}
		if err := b.SealAt(ctx, l.Name, p.Home); err != nil {
			return p, err
		}
		return Place{Home: p.Next, Former: []string{p.Home}, Ordered: p.Ordered}, nil
	case p.Home != to:
		same, err := b.same(ctx, l, p.Home, to)
		if err != nil {
			return p, err
		}
		if same {
			return Place{Home: to, Ordered: p.Ordered}, nil
		}
		if err := b.Prepare(ctx, l, groups, to); err != nil {
			return p, err
		}
		p.Next = to
	}
	return p, nil
}

// same tells whether two members have the very same log: they are two ways to one
// broker.
func (b *Backend) same(ctx context.Context, l backend.Log, members ...string) (bool, error) {
	var first backend.Incarnation
	for i, name := range members {
		m, err := b.on(name)
		var is backend.Incarnation
		if err == nil {
			is, err = m.EnsureLog(ctx, l)
		}
		if err != nil {
			return false, fmt.Errorf("make log %s on backend %s: %w", l.Name, name, err)
		}
		if i == 0 {
			first = is
		} else if is != first {
			return false, nil
		}
	}
	return true, nil
}

// release lets go of the oldest place if nothing is left there.
func (b *Backend) release(ctx context.Context, l backend.Log, groups []string, p Place) (Place, error) {
	oldest := p.Former[0]
	drained, err := b.Drained(ctx, l.Name, groups, oldest)
	if err != nil || !drained {
		return p, err
	}
	if err := b.Forget(ctx, l.Name, oldest); err != nil {
		return p, err
	}
	p.Former = slices.Clone(p.Former[1:])
	return p, nil
}
