package claimcheck

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Carry makes a claim for a record of another channel that refers to the same
// object, and renews it when less than half of its time remains: call it before
// each publish of a record with a claim, also to the same channel. The record
// that the claim comes from must not be settled before that publish is durable.
//
// Channels of different namespaces do not share objects: ErrOwner means that the
// payload must be stored anew.
func (r *Checkroom) Carry(ctx context.Context, c Claim, owner string) (Claim, error) {
	c, err := r.carry(ctx, c, owner)
	if err != nil {
		r.notify.Failed(OpRenew, err)
		return Claim{}, fmt.Errorf("carry payload to %s: %w", owner, err)
	}
	return c, nil
}

func (r *Checkroom) carry(ctx context.Context, c Claim, owner string) (Claim, error) {
	if err := c.validate(); err != nil {
		return Claim{}, err
	}
	if err := validateOwner(owner); err != nil {
		return Claim{}, err
	}
	if !sameNamespace(c.Owner, owner) {
		return Claim{}, fmt.Errorf("%w: of %s", ErrOwner, c.Owner)
	}
	c.Owner = owner
	now := r.now()
	if c.Expires.Sub(now) >= r.ttl/2 {
		return c, nil
	}
	until := wholeSeconds(now.Add(r.ttl))
	if err := r.mark(ctx, &c, renewals, until); err != nil {
		return Claim{}, err
	}
	c.Expires = until
	return c, nil
}

func sameNamespace(a, b string) bool {
	na, _, _ := strings.Cut(a, "/")
	nb, _, _ := strings.Cut(b, "/")
	return na == nb
}

// mark keeps a claim's object until then.
func (r *Checkroom) mark(ctx context.Context, c *Claim, folder string, until time.Time) error {
	s, err := r.store(c.Store)
	if err != nil {
		return err
	}
	k, _ := parsePayload(c.Object)
	return s.Put(ctx, k.mark(folder, until), strings.NewReader(""))
}

// Discard deletes a payload before its time, and tells whether it did: not if
// there may be a link to it that is still valid. It is for payloads that nobody
// else can hold: handed over by value, to the only group of its log, not carried forward and not
// dead-lettered. Call it after the record is settled: a crash in between leaves an
// object that is swept later.
func (r *Checkroom) Discard(ctx context.Context, c Claim) (bool, error) {
	done, err := r.discard(ctx, &c)
	if err != nil {
		r.notify.Failed(OpDelete, err)
		return false, fmt.Errorf("delete payload of %s: %w", c.Owner, err)
	}
	if done {
		r.notify.Deleted(c.Size)
	}
	return done, nil
}

func (r *Checkroom) discard(ctx context.Context, c *Claim) (bool, error) {
	if err := c.validate(); err != nil {
		return false, err
	}
	s, err := r.store(c.Store)
	if err != nil {
		return false, err
	}
	k, _ := parsePayload(c.Object)
	for o, err := range s.List(ctx, k.marks(links)) {
		if err != nil {
			return false, err
		}
		if _, until, ok := parseMark(links, o.Name); ok && !r.over(until) {
			return false, nil
		}
	}
	// The payload first: what is left if we die here are marks, which expire.
	r.kept.drop(c.Store, c.Object)
	if err := s.Delete(ctx, c.Object); err != nil {
		return false, err
	}
	if c.Expires.Equal(k.expires) {
		return true, nil // never renewed
	}
	for o, err := range s.List(ctx, k.marks(renewals)) {
		if err != nil {
			return true, nil //nolint:nilerr // the payload is gone, and marks expire
		}
		_ = s.Delete(ctx, o.Name)
	}
	return true, nil
}

// over tells whether a time is over, whatever clock one looks at.
func (r *Checkroom) over(t time.Time) bool { return r.now().After(t.Add(r.slack)) }

// recent remembers marks that were made, so that a payload that many are given a
// link to is marked once. It forgets everything when it is full.
type recent struct {
	mu    sync.Mutex
	marks map[string]struct{}
}

const maxRecent = 8192

func (m *recent) has(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.marks[name]
	return ok
}

func (m *recent) add(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.marks == nil || len(m.marks) >= maxRecent {
		m.marks = map[string]struct{}{}
	}
	m.marks[name] = struct{}{}
}
