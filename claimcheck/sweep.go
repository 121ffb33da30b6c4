package claimcheck

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"time"
)

// Live yields the claims of all records that are stored in any log, settled by
// not all of its groups. It ends in an error if it cannot tell of one: then nothing is
// swept. A record that is published while it runs may be left out.
type Live func(ctx context.Context) iter.Seq2[Claim, error]

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

// Sweep deletes the payloads whose time is over, to which neither a live record
// nor a valid link refers, from all stores. The order makes it safe beside
// publishers and other sweepers:
//
//  1. candidates: payloads whose name says that their time is over
//  2. less those that a live record refers to
//  3. less those with a renewal or a link that is not over
//  4. delete the rest
//
// A record that step 2 did not see was published after it, from one that it saw,
// or after a renewal that step 3 sees: Carry renews what is about to expire before it is
// published, and its record is settled after that.
func (r *Checkroom) Sweep(ctx context.Context, live Live) (Swept, error) {
	var total Swept
	var errs []error
	for id, s := range r.rooms.Load().stores {
		w := &sweep{r: r, id: id, s: s, live: live, seed: maphash.MakeSeed(), total: &total}
		if err := w.run(ctx); err != nil {
			err = fmt.Errorf("sweep payload store %q: %w", id, err)
			r.notify.Failed(OpSweep, err)
			errs = append(errs, err)
		}
	}
	return total, errors.Join(errs...)
}

// SweepEvery sweeps until ctx ends. Failures go to the Observer; the next
// sweep tries again.
func (r *Checkroom) SweepEvery(ctx context.Context, every time.Duration, live Live) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_, _ = r.Sweep(ctx, live) // was observed
		}
	}
}

// sweep is one store's.
type sweep struct {
	r     *Checkroom
	id    string
	s     Store
	live  Live
	seed  maphash.Seed
	total *Swept
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
	return w.marks(ctx)
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
		} else if w.candidate(o) {
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
func (w *sweep) candidate(o Object) bool {
	k, ok := parsePayload(o.Name)
	return ok && !o.Partial && w.r.over(k.expires)
}

func (w *sweep) part(ctx context.Context, part, parts uint64) error {
	candidates := map[string]int64{} // size by key
	for o, err := range w.s.List(ctx, payloads) {
		if err != nil {
			return err
		}
		if w.candidate(o) && maphash.String(w.seed, o.Name)%parts == part {
			k, _ := parsePayload(o.Name)
			candidates[k.String()] = o.Size
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	for c, err := range w.live(ctx) {
		if err != nil {
			return fmt.Errorf("find live claims: %w", err)
		}
		if k, ok := parsePayload(c.Object); ok && c.Store == w.id {
			delete(candidates, k.String())
		}
	}
	for _, folder := range []string{renewals, links} {
		if err := w.spare(ctx, folder, candidates); err != nil {
			return err
		}
	}
	return w.delete(ctx, candidates)
}

// spare takes out the candidates that have a mark which is not over.
func (w *sweep) spare(ctx context.Context, folder string, candidates map[string]int64) error {
	for o, err := range w.s.List(ctx, folder) {
		if err != nil {
			return err
		}
		if k, until, ok := parseMark(folder, o.Name); ok && !w.r.over(until) {
			delete(candidates, k.String())
		}
	}
	return nil
}

func (w *sweep) delete(ctx context.Context, candidates map[string]int64) error {
	for k, size := range candidates {
		if err := w.s.Delete(ctx, payloads+k); err != nil {
			return err
		}
		w.total.Payloads++
		w.total.Bytes += size
		w.r.notify.Swept(size)
	}
	return nil
}

// marks deletes those that are over: they keep nothing any more.
func (w *sweep) marks(ctx context.Context) error {
	for _, folder := range []string{renewals, links} {
		for o, err := range w.s.List(ctx, folder) {
			if err != nil {
				return err
			}
			if _, until, ok := parseMark(folder, o.Name); !ok || o.Partial || !w.r.over(until) {
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
