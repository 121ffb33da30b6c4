package faultbackend

import (
	"context"
	"errors"
	"sync"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// subscription is a member whose calls meet the faults of its backend's plan.
type subscription struct {
	b          *Backend
	inner      backend.Subscription
	log, group string

	mu    sync.Mutex
	again []*backend.Delivery // to be handed out a second time
}

var _ backend.Rester = (*subscription)(nil)

// Subscribe implements backend.Subscriber.
func (b *Backend) Subscribe(
	ctx context.Context, log, group string, o backend.Options,
) (backend.Subscription, error) {
	c, f := b.next(Subscribe, log, group)
	if !f.wait(ctx.Done()) {
		return nil, ctx.Err()
	}
	if f.Do == Fail || f.Do == Drop {
		return nil, f.error(c)
	}
	inner, err := b.inner.Subscribe(ctx, log, group, o)
	if err != nil {
		return nil, err
	}
	if f.Do == LoseConfirmation {
		return nil, errors.Join(f.error(c), inner.Close())
	}
	return &subscription{b: b, inner: inner, log: log, group: group}, nil
}

// Receive implements backend.Subscription.
func (s *subscription) Receive(ctx context.Context) (*backend.Delivery, error) {
	for {
		c, f := s.b.next(Receive, s.log, s.group)
		if !f.wait(ctx.Done()) {
			return nil, ctx.Err()
		}
		if f.Do == Fail {
			return nil, f.error(c)
		}
		d := s.takeAgain()
		if d == nil {
			var err error
			if d, err = s.inner.Receive(ctx); err != nil {
				return nil, err
			}
		}
		switch f.Do {
		case LoseConfirmation:
			return nil, f.error(c)
		case Drop:
			continue
		case Duplicate:
			s.putAgain(d)
		}
		return d, nil
	}
}

// Rest implements backend.Rester, as far as the inner subscription does. It meets
// no faults: whoever rests calls Receive in the end, which does.
func (s *subscription) Rest(wake func()) bool {
	inner, ok := s.inner.(backend.Rester)
	if !ok {
		return false
	}
	s.mu.Lock()
	again := len(s.again) > 0
	s.mu.Unlock()
	return !again && inner.Rest(wake)
}

func (s *subscription) takeAgain() *backend.Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.again) == 0 || s.b.isClosed() {
		return nil
	}
	d := s.again[0]
	s.again = s.again[1:]
	return d
}

// putAgain keeps a copy, so that the two do not share what their holders may
// write to.
func (s *subscription) putAgain(d *backend.Delivery) {
	twin := *d
	twin.Redelivered = true
	twin.Header = append([]backend.Header(nil), d.Header...)
	twin.Data = append([]byte(nil), d.Data...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.again = append(s.again, &twin)
}

// Ack implements backend.Subscription.
func (s *subscription) Ack(d *backend.Delivery) error {
	return s.call(Ack, func() error { return s.inner.Ack(d) })
}

// Close implements backend.Subscription.
func (s *subscription) Close() error {
	return s.call(CloseSubscription, func() error {
		s.mu.Lock()
		s.again = nil
		s.mu.Unlock()
		return s.inner.Close()
	})
}

// call is for those without a context: nothing ends their delay.
func (s *subscription) call(op Op, do func() error) error {
	c, f := s.b.next(op, s.log, s.group)
	f.wait(nil)
	return f.apply(c, do, nil)
}
