package channel

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
)

// How a publish from outside is tried again. It ends well within the
// backends' deduplication window (10 s), so that a record that was stored
// although its confirmation got lost is not stored twice.
const (
	publishHorizon = 3 * time.Second
	publishPause   = 50 * time.Millisecond
)

// Publish stores e, which came from outside, in channel c of a View that the
// caller holds. nil: it is durable. Errors are the backend's. The payload of an
// event that was not stored, for certain, is deleted.
func (d *Dispatcher) Publish(ctx context.Context, c *Channel, e *event.Event) error {
	if d.Tracer == nil {
		return d.accept(ctx, c, e)
	}
	h := Hop{Leg: FromOutside, Channel: c, Event: e, Stores: true, Start: time.Now(), Dest: c.log, Attempt: 1}
	span := d.begin(&h)
	err := d.accept(ctx, c, h.Event)
	if span != nil {
		h.stored(err)
		span.End(&h)
	}
	return err
}

// stored is the end of a Hop that Stores.
func (h *Hop) stored(err error) {
	h.Took, h.Result = time.Since(h.Start), &egress.Result{Attempts: h.Attempt, Err: err}
	if err == nil {
		h.Result.Status = http.StatusAccepted
	}
}

func (d *Dispatcher) accept(ctx context.Context, c *Channel, e *event.Event) error {
	r, err := d.record(ctx, c, e)
	if err != nil {
		d.Discard(e)
		return err
	}
	// The nonce is per call and not derived from the event: the same event
	// posted twice is two events.
	r.Dedup = d.nonces.next()
	err = d.Backend.Publish(ctx, c.log, &r)
	switch {
	case err == nil:
		if p, ok := e.Payload.(*claimed); ok && len(c.Subscriptions) == 0 {
			d.discards.add(discard{claim: p.claim, log: c.log}) // by interest, no log keeps the record
		}
	case transient(err):
		// It may have been stored although nobody said so: whatever becomes
		// of the next attempts, a record may refer to the payload.
		err = d.publishAgain(ctx, c, &r, err)
	case refused(err):
		d.Discard(e)
	}
	return err
}

// refused: nothing was stored, for certain. Other errors, such as that of a context
// that has ended, leave that open.
func refused(err error) bool {
	return errors.Is(err, backend.ErrTooLarge) || errors.Is(err, backend.ErrFull) || gone(err)
}

// Discard deletes the payload of an event that is not going to be published.
func (d *Dispatcher) Discard(e *event.Event) {
	if p, ok := e.Payload.(*claimed); ok && d.Claims != nil {
		d.discards.add(discard{claim: p.claim})
	}
}

func (d *Dispatcher) publishAgain(ctx context.Context, c *Channel, r *backend.Record, err error) error {
	ctx, cancel := context.WithTimeout(ctx, publishHorizon)
	defer cancel()
	for pause := publishPause; ; pause *= 2 {
		if !sleep(ctx, pause) {
			return err
		}
		if err = d.Backend.Publish(ctx, c.log, r); err == nil || !transient(err) {
			return err
		}
	}
}

// transient: trying again at once may help. A full backend does not get room
// within the time that a client waits.
func transient(err error) bool {
	return errors.Is(err, backend.ErrUnavailable) && !errors.Is(err, backend.ErrFull)
}

// Room reports why ingress should take no events for a channel now, or nil.
func (d *Dispatcher) Room(c *Channel) error { return d.Backend.Room(c.log) }

// Full counts the channels that ingress should take no events for.
func (d *Dispatcher) Full() (n int) {
	v := d.Hold()
	defer v.Release()
	for _, c := range v.byName {
		if d.Room(c) != nil {
			n++
		}
	}
	return n
}

// nonces makes Dedup keys that no other process and no other call makes.
type nonces struct {
	prefix string
	n      atomic.Uint64
}

func (n *nonces) start() {
	var b [8]byte
	rand.Read(b[:]) // never fails: it crashes the program instead
	n.prefix = "n" + hex.EncodeToString(b[:]) + "-"
}

func (n *nonces) next() string {
	var buf [40]byte
	return string(strconv.AppendUint(append(buf[:0], n.prefix...), n.n.Add(1), 36))
}

// dedup names what became of a record: a reply, spill or dead letter that is
// published again after a crash is the same one; unless it has another payload: the
// one in the log would go on to refer to the former, of which nobody knows any more.
func dedup(rec *backend.Delivery, uid string, leg Leg, payload event.Payload) string {
	var buf [128]byte
	b := append(buf[:0], rec.Incarnation...)
	b = strconv.AppendInt(append(b, '/'), int64(rec.Partition), 10)
	b = strconv.AppendUint(append(b, '/'), rec.Offset, 10)
	b = append(append(b, '/'), uid...)
	b = strconv.AppendUint(append(b, '/'), uint64(leg), 10)
	if p, ok := payload.(*claimed); ok {
		b = append(b, p.claim.Object[strings.LastIndexByte(p.claim.Object, '/'):]...)
	}
	return string(b)
}

// sleep waits, and tells whether it waited to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
