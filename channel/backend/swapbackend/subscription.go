package swapbackend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// How a place is joined again that could not be.
const (
	joinPause    = 100 * time.Millisecond
	joinPauseMax = 5 * time.Second
	// toldPause is how long one waits to be told of a place that the log has left.
	toldPause = 10 * time.Millisecond
)

// subscription is a member of a group wherever its log is.
//
//	Set --> follow --> adapt: open what is new, read it with the rest, close what is over
//	                      |
//	                      v
//	Receive <---------- reading: one feed, directly; or several, by a goroutine each
type subscription struct {
	b          *Backend
	log, group string
	options    backend.Options

	ctx    context.Context //nolint:containedctx // ends with Close
	cancel context.CancelFunc

	reading atomic.Pointer[reading]
	feeds   atomic.Pointer[[]*feed] // that are open, of whom acks are taken

	adapting, stale atomic.Bool
	at              atomic.Pointer[Place] // what was joined in full
	running         sync.WaitGroup        // adapt
	closed          bool                  // guarded by b.mu
	over            atomic.Bool           // its log was deleted; set with b.mu held

	joining sync.Mutex // held by join

	mu      sync.Mutex
	left    []*backend.Delivery // received by a goroutine that had to end
	some    atomic.Bool         // there are any
	resting func()              // what Rest was given; nil: nobody rests
	wake    func()              // rouse, made once
}

// feed is the subscription on one member.
type feed struct {
	member string
	sub    backend.Subscription
	// incarnation of the log there, once it is known by a record.
	incarnation atomic.Pointer[backend.Incarnation]
}

// received notes whose record d is.
func (f *feed) received(d *backend.Delivery) {
	if f.incarnation.Load() == nil {
		i := d.Incarnation
		f.incarnation.Store(&i)
	}
}

// reading is what is received from at one time. There are as many as there are
// subscriptions, nearly all of one feed, which needs nothing but ctx.
type reading struct {
	feeds []*feed
	ctx   context.Context //nolint:containedctx // ends when it is replaced, or with Close
	end   context.CancelFunc

	// If there are several feeds: a goroutine each, and what they have.
	running sync.WaitGroup
	out     chan *backend.Delivery
	failing sync.Once
	failed  chan struct{} // closed once err says why nothing more comes
	err     error

	// derived of the last caller's context, which is the same one as a rule.
	derived atomic.Pointer[derived]
}

type derived struct{ from, ctx context.Context } //nolint:containedctx // see reading

var _ backend.Rester = (*subscription)(nil)

// Subscribe implements backend.Subscriber. It succeeds when one place could be
// joined; the others are joined as soon as they can be.
func (b *Backend) Subscribe(ctx context.Context, log, group string, o backend.Options) (backend.Subscription, error) {
	s := &subscription{b: b, log: log, group: group, options: o}
	s.wake = s.rouse
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.feeds.Store(new([]*feed))
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		s.cancel()
		return nil, backend.ErrClosed
	}
	if b.subs[log] == nil {
		b.subs[log] = make(map[*subscription]struct{})
	}
	b.subs[log][s] = struct{}{}
	b.mu.Unlock()
	all, err := s.join(ctx, b.Place(log))
	if s.reading.Load() == nil {
		return nil, errors.Join(err, s.Close())
	}
	if !all {
		b.mu.Lock()
		s.follow()
		b.mu.Unlock()
	}
	return s, nil
}

// follow has the subscription adapt to where its log is now. It is called with b.mu
// held and does not wait.
func (s *subscription) follow() {
	s.stale.Store(true)
	if !s.closed && !s.over.Load() && s.adapting.CompareAndSwap(false, true) {
		s.running.Go(s.adapt)
	}
}

// place is where the log is, if it was not deleted.
func (s *subscription) place() (p Place, is bool) {
	s.b.mu.RLock()
	defer s.b.mu.RUnlock()
	return s.b.place(s.log), !s.over.Load()
}

// finish tells those who receive that it is over: there is nothing more to be had, even
// where that is not known yet, nor from another log of that name.
func (s *subscription) finish() {
	if r := s.reading.Load(); r != nil {
		r.end()
	}
	s.rouse()
}

func (s *subscription) adapt() {
	for pause := joinPause; ; pause = min(2*pause, joinPauseMax) {
		s.stale.Store(false)
		place, is := s.place()
		if !is {
			return
		}
		all, err := s.join(s.ctx, place)
		if all {
			s.adapting.Store(false)
			if !s.stale.Load() || !s.adapting.CompareAndSwap(false, true) {
				return
			}
			pause = joinPause
			continue
		}
		if s.ctx.Err() != nil {
			return
		}
		s.b.logger.Warn("cannot receive from everywhere a log is; trying again",
			"log", s.log, "subscription", s.group, "pause", pause, "error", err)
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
			return
		}
	}
}

// joined tells whether the subscription receives from all that the log's place
// names. It is called with b.mu held.
func (s *subscription) joined() bool {
	at := s.at.Load()
	return at != nil && at.Equal(s.b.place(s.log))
}

// join receives from what p names, as far as it can be opened, and tells whether
// that was all.
func (s *subscription) join(ctx context.Context, p Place) (all bool, err error) {
	s.joining.Lock()
	defer s.joining.Unlock()
	var errs []error
	var wanted []*feed
	for _, name := range p.read() {
		f, err := s.open(ctx, name, slices.Contains(p.Former, name))
		if err != nil {
			errs = append(errs, err)
		}
		if f != nil {
			wanted = append(wanted, f)
		}
	}
	if len(errs) == 0 || len(wanted) > 0 {
		s.read(wanted)
	}
	if len(errs) > 0 {
		return false, errors.Join(errs...)
	}
	s.at.Store(&p)
	return true, nil
}

// open is the feed of a member, nil if there is nothing to be had: the group was made
// after the log had left.
func (s *subscription) open(ctx context.Context, member string, former bool) (*feed, error) {
	for _, f := range *s.feeds.Load() {
		if f.member == member {
			return f, nil
		}
	}
	m, err := s.b.on(member)
	if err != nil {
		return nil, err
	}
	sub, err := m.Subscribe(ctx, s.log, s.group, s.options)
	if former && errors.Is(err, backend.ErrNotFound) {
		return nil, nil //nolint:nilnil // see above
	}
	if err != nil {
		return nil, err
	}
	f := &feed{member: member, sub: sub}
	open := append(slices.Clone(*s.feeds.Load()), f)
	s.feeds.Store(&open)
	return f, nil
}

// read receives from these feeds from now on, and closes the others.
func (s *subscription) read(wanted []*feed) {
	old := s.reading.Load()
	if old != nil && slices.Equal(old.feeds, wanted) {
		return
	}
	r := &reading{feeds: wanted}
	r.ctx, r.end = context.WithCancel(context.Background())
	if old != nil {
		old.end()
		old.running.Wait()
	}
	s.retire(wanted)
	if len(wanted) > 1 {
		r.out, r.failed = make(chan *backend.Delivery), make(chan struct{})
		for _, f := range wanted {
			r.running.Go(func() { s.pump(r, f) })
		}
	}
	s.reading.Store(r)
	if s.ctx.Err() != nil || s.over.Load() {
		r.end() // Close, or finish, may not have seen it
	}
	s.rouse()
}

// retire closes the feeds that are not wanted any more. What they delivered and
// was not received goes back, and is not handed out.
func (s *subscription) retire(wanted []*feed) {
	for _, f := range *s.feeds.Load() {
		if slices.Contains(wanted, f) {
			continue
		}
		if i := f.incarnation.Load(); i != nil {
			s.mu.Lock()
			s.left = slices.DeleteFunc(s.left, func(d *backend.Delivery) bool { return d.Incarnation == *i })
			s.some.Store(len(s.left) > 0)
			s.mu.Unlock()
		}
		if err := f.sub.Close(); err != nil {
			s.b.logger.Warn("leaving a backend", "log", s.log, "subscription", s.group, "backend", f.member, "error", err)
		}
	}
	open := slices.Clone(wanted)
	s.feeds.Store(&open)
}

// pump hands on what one of several feeds delivers.
func (s *subscription) pump(r *reading, f *feed) {
	for {
		d, err := f.sub.Receive(r.ctx)
		switch {
		case r.ctx.Err() != nil && err != nil:
			return
		case err != nil:
			if f != r.feeds[0] { // one that was left may be deleted
				r.fail(fmt.Errorf("receive from backend %s: %w", f.member, err))
			}
			return
		}
		f.received(d)
		select {
		case r.out <- d:
		case <-r.ctx.Done():
			s.mu.Lock()
			s.left = append(s.left, d)
			s.some.Store(true)
			s.mu.Unlock()
			return
		}
	}
}

// Receive implements backend.Subscription.
func (s *subscription) Receive(ctx context.Context) (*backend.Delivery, error) {
	for {
		if s.ctx.Err() != nil {
			return nil, backend.ErrClosed
		}
		if s.over.Load() {
			return nil, fmt.Errorf("log %s was deleted: %w", s.log, backend.ErrNotFound)
		}
		if d := s.leftover(ctx); d != nil {
			return d, nil
		}
		r := s.reading.Load()
		d, err := r.receive(ctx)
		if err == nil {
			return d, nil
		}
		switch {
		case s.ctx.Err() != nil:
			return nil, backend.ErrClosed
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case r.ctx.Err() != nil:
			// The log is elsewhere now. Wait for what it is received from.
			if s.reading.Load() == r {
				r.running.Wait()
				sleep(ctx, time.Millisecond)
			}
		case errors.Is(err, backend.ErrNotFound) && s.gone(r):
			// Whoever moves the log has deleted it there, and we have yet to be told.
			sleep(ctx, toldPause)
		default:
			return nil, err
		}
	}
}

// gone tells whether all that is received from is a place that the log leaves, or has
// left.
func (s *subscription) gone(r *reading) bool {
	p, at := s.b.Place(s.log), s.at.Load()
	if !p.named || len(r.feeds) != 1 {
		return false
	}
	return at == nil || !at.Equal(p) || slices.Contains(p.Former, r.feeds[0].member)
}

// Rest implements backend.Rester, while the log has one place.
func (s *subscription) Rest(wake func()) bool {
	r := s.reading.Load()
	if len(r.feeds) != 1 || s.some.Load() {
		return false
	}
	f, ok := r.feeds[0].sub.(backend.Rester)
	if !ok {
		return false
	}
	s.mu.Lock()
	s.resting = wake
	s.mu.Unlock()
	if !f.Rest(s.wake) && s.rouses() != nil {
		return false
	}
	// It may have moved, or been closed, since it was looked up.
	if s.reading.Load() != r || s.ctx.Err() != nil || s.over.Load() {
		s.rouse()
	}
	return true
}

// rouse wakes who rests, if anybody does.
func (s *subscription) rouse() {
	if wake := s.rouses(); wake != nil {
		wake()
	}
}

// rouses takes what Rest was given: nobody rests any more.
func (s *subscription) rouses() func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	wake := s.resting
	s.resting = nil
	return wake
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (s *subscription) leftover(ctx context.Context) *backend.Delivery {
	if !s.some.Load() || ctx.Err() != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.left) == 0 {
		return nil
	}
	d := s.left[0]
	s.left = s.left[1:]
	s.some.Store(len(s.left) > 0)
	return d
}

func (r *reading) receive(ctx context.Context) (*backend.Delivery, error) {
	if len(r.feeds) == 1 {
		within, done := r.within(ctx)
		defer done()
		d, err := r.feeds[0].sub.Receive(within)
		if err == nil {
			r.feeds[0].received(d)
		}
		return d, err
	}
	select {
	case d := <-r.out:
		return d, nil
	case <-r.failed:
		return nil, r.err
	case <-r.ctx.Done():
		return nil, context.Cause(r.ctx)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (r *reading) fail(err error) {
	r.failing.Do(func() {
		r.err = err
		close(r.failed)
	})
}

// within is a context that ends with ctx, and with r.
func (r *reading) within(ctx context.Context) (context.Context, func()) {
	if d := r.derived.Load(); d != nil && d.from == ctx {
		return d.ctx, func() {}
	}
	c, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(r.ctx, cancel)
	if r.derived.CompareAndSwap(nil, &derived{ctx, c}) {
		// Kept for the calls that come: it ends with r at the latest.
		return c, func() {}
	}
	return c, func() { stop(); cancel() }
}

// Ack implements backend.Subscription.
func (s *subscription) Ack(d *backend.Delivery) error {
	for _, f := range *s.feeds.Load() {
		if i := f.incarnation.Load(); i != nil && *i == d.Incarnation {
			return f.sub.Ack(d)
		}
	}
	return nil // of a log that was left: it came back, and was settled elsewhere
}

// Close implements backend.Subscription.
func (s *subscription) Close() error {
	s.b.mu.Lock()
	if s.closed {
		s.b.mu.Unlock()
		return nil
	}
	s.closed = true
	delete(s.b.subs[s.log], s)
	if len(s.b.subs[s.log]) == 0 {
		delete(s.b.subs, s.log)
	}
	s.b.mu.Unlock()
	s.cancel()
	s.running.Wait()
	if r := s.reading.Load(); r != nil {
		r.end()
		r.running.Wait()
	}
	s.rouse()
	var errs []error
	for _, f := range *s.feeds.Load() {
		errs = append(errs, f.sub.Close())
	}
	return errors.Join(errs...)
}
