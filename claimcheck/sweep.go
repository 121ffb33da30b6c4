package claimcheck

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"
)

// Oldest tells when the oldest record of any channel of a namespace was stored that
// some group has yet to settle; zero if there is none. An error means that it cannot
// tell, and then nothing of that namespace is swept.
type Oldest func(ctx context.Context, namespace string) (time.Time, error)

// Swept is what a sweep deleted.
type Swept struct {
	Payloads int
	Bytes    int64 // of payloads, with their trailers
	Marks    int   // of renewals and links whose time was over
	Partials int   // left by puts that were killed
}

const (
	// sweepBatch is how many payloads are looked at in one go: what a sweep
	// has in memory.
	sweepBatch = 8192
	// partialAge is how long an unfinished put may have been silent (S3: may have
	// begun ago) before it counts as killed.
	partialAge = 24 * time.Hour
)

// Sweep deletes the payloads whose time is over, to which neither an unsettled record
// nor a valid link refers, from all stores. No log is read for it:
//
//	put, or renewed         published at the latest     expires
//	-----|----------------------------|--------------------|-------> time
//	     '-- at least half of its time remains: else it --'
//	         is renewed first, see Carry
//
// So whatever refers to a payload was stored before the payload's time was over,
// and where all that is unsettled in its namespace was stored later, nothing refers to
// it. A stuck record keeps what expired after it, of its namespace alone.
//
// The order makes it safe beside publishers and other sweepers:
//
//  1. candidates: payloads whose name says that their time is over
//  2. the oldest unsettled record of their namespaces
//  3. the renewals and links of the candidates
//  4. delete those whose time is over with all that, and was before that record
//
// A record that step 2 did not see was published from one that it saw, or else after
// that one's renewal was made, which step 3 sees: Carry renews what is about to expire
// before it is published, and its record is settled after that.
func (r *Checkroom) Sweep(ctx context.Context, oldest Oldest) (Swept, error) {
	var total Swept
	var errs []error
	for id, s := range r.rooms.Load().stores {
		w := &sweep{r: r, id: id, s: s, oldest: oldest, seed: maphash.MakeSeed(), total: &total, namespaces: map[string]time.Time{}}
		if err := w.run(ctx); err != nil {
			err = fmt.Errorf("sweep payload store %q: %w", id, err)
			r.notify.Failed(OpSweep, err)
			errs = append(errs, err)
		}
	}
	return total, errors.Join(errs...)
}

// sweep is one store's.
type sweep struct {
	r      *Checkroom
	id     string // of s
	s      Store
	oldest Oldest
	seed   maphash.Seed
	total  *Swept

	namespaces map[string]time.Time // what oldest said
	unknown    error                // and where it could not tell
}

// candidate is a payload whose own time is over.
type candidate struct {
	size int64
	// until is the latest time of its name and its marks.
	until time.Time
}

func (w *sweep) run(ctx context.Context) error {
	n, err := w.survey(ctx)
	if err != nil {
		return err
	}
	// A store lists in no order, and some payloads stay: so they are taken in
	// parts of about one batch each, by the hash of their names.
	parts := uint64(n+sweepBatch-1) / sweepBatch
	for part := range parts {
		if err := w.part(ctx, part, parts); err != nil {
			return err
		}
	}
	return errors.Join(w.marks(ctx), w.unknown)
}

// over tells whether nothing in a namespace can need what was kept until then: no
// link, and no record, as all that is unsettled was stored later.
func (w *sweep) over(ctx context.Context, namespace string, until time.Time) bool {
	if !w.r.over(until) {
		return false
	}
	oldest, known := w.namespaces[namespace]
	if !known {
		var err error
		if oldest, err = w.oldest(ctx, namespace); err != nil {
			w.unknown = errors.Join(w.unknown, fmt.Errorf("find the oldest unsettled record of namespace %s: %w", namespace, err))
			oldest = time.Unix(0, 0) // nothing is sure to be over
		}
		w.namespaces[namespace] = oldest
	}
	return oldest.IsZero() || oldest.After(until.Add(w.r.slack))
}

// survey counts the candidates, and deletes what killed puts left.
func (w *sweep) survey(ctx context.Context) (n int, err error) {
	for o, err := range w.s.List(ctx, "") {
		if err != nil {
			return 0, err
		}
		if o.Partial {
			if err := w.partial(ctx, o); err != nil {
				return 0, err
			}
		} else if _, ok := w.candidate(o); ok {
			n++
		}
	}
	return n, nil
}

func (w *sweep) partial(ctx context.Context, o Object) error {
	if w.r.now().Sub(o.Modified) < partialAge {
		return nil
	}
	if err := w.s.Delete(ctx, o.Name); err != nil {
		return err
	}
	w.total.Partials++
	return nil
}

// candidate tells whether an object is a payload whose own time is over. What
// we did not make is none.
func (w *sweep) candidate(o Object) (key, bool) {
	k, ok := parsePayload(o.Name)
	return k, ok && !o.Partial && w.r.over(k.expires)
}

func (w *sweep) part(ctx context.Context, part, parts uint64) error {
	candidates := map[key]candidate{}
	for o, err := range w.s.List(ctx, payloads) {
		if err != nil {
			return err
		}
		// Those that a record keeps are no candidates yet: so its namespace is
		// asked before the marks are read.
		if k, ok := w.candidate(o); ok && maphash.String(w.seed, o.Name)%parts == part && w.over(ctx, k.namespace, k.expires) {
			candidates[k] = candidate{o.Size, k.expires}
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	for _, folder := range []string{renewals, links} {
		if err := w.extend(ctx, folder, candidates); err != nil {
			return err
		}
	}
	return w.delete(ctx, candidates)
}

// extend gives the candidates the time that their marks in a folder give them.
func (w *sweep) extend(ctx context.Context, folder string, candidates map[key]candidate) error {
	for o, err := range w.s.List(ctx, folder) {
		if err != nil {
			return err
		}
		k, until, ok := parseMark(folder, o.Name)
		if c, wanted := candidates[k]; ok && wanted && until.After(c.until) {
			c.until = until
			candidates[k] = c
		}
	}
	return nil
}

func (w *sweep) delete(ctx context.Context, candidates map[key]candidate) error {
	for k, c := range candidates {
		if !w.over(ctx, k.namespace, c.until) {
			continue
		}
		w.r.kept.drop(w.id, k.payload())
		if err := w.s.Delete(ctx, k.payload()); err != nil {
			return err
		}
		w.total.Payloads++
		w.total.Bytes += c.size
		w.r.notify.Swept(c.size)
	}
	return nil
}

// marks deletes those that are over: they keep nothing any more. One that a record
// outlasts stays, as its payload does: it says how old that record may be.
func (w *sweep) marks(ctx context.Context) error {
	for _, folder := range []string{renewals, links} {
		for o, err := range w.s.List(ctx, folder) {
			if err != nil {
				return err
			}
			k, until, ok := parseMark(folder, o.Name)
			if !ok || o.Partial || !w.over(ctx, k.namespace, until) {
				continue
			}
			if err := w.s.Delete(ctx, o.Name); err != nil {
				return err
			}
			w.total.Marks++
		}
	}
	return nil
}
