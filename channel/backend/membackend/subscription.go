package membackend

import (
	"context"
	"fmt"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// subscription is one member of a group.
type subscription struct {
	b      *Backend
	name   string
	log    *log
	group  *group
	window int
	held   map[*pending]struct{} // by us; the store's lock guards it
	closed bool
}

var _ backend.Rester = (*subscription)(nil)

// Subscribe implements backend.Subscriber.
func (b *Backend) Subscribe(
	ctx context.Context, log, name string, o backend.Options,
) (backend.Subscription, error) {
	if o.Window == 0 {
		o.Window = 64
	}
	var s *subscription
	err := b.do(ctx, func() error {
		l, g, err := b.store.group(log, name)
		if err != nil {
			return err
		}
		s = &subscription{
			b: b, name: name, log: l, group: g,
			window: o.Window, held: make(map[*pending]struct{}),
		}
		b.subs[s] = struct{}{}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return s, nil
}

// Receive implements backend.Subscription.
func (s *subscription) Receive(ctx context.Context) (*backend.Delivery, error) {
	for {
		d, changed, err := s.next()
		if d != nil || err != nil {
			return d, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// next is one look: a record, or what to wait for.
func (s *subscription) next() (*backend.Delivery, <-chan struct{}, error) {
	st := s.b.store
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case s.closed || s.b.closed:
		return nil, nil, fmt.Errorf("receive: %w", backend.ErrClosed)
	case st.logs[s.log.name] != s.log || s.log.groups[s.name] != s.group:
		return nil, nil, fmt.Errorf("receive from group %s of log %s: %w", s.name, s.log.name, backend.ErrNotFound)
	case s.b.cut || s.holding() >= s.window:
		return nil, st.changed, nil
	}
	d := st.deliver(s.log, s.group, s)
	if d != nil {
		s.held[d.Token.(*pending)] = struct{}{}
	}
	return d, st.changed, nil
}

// Rest implements backend.Rester.
func (s *subscription) Rest(wake func()) bool {
	st := s.b.store
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case s.closed || s.b.closed, st.logs[s.log.name] != s.log || s.log.groups[s.name] != s.group:
		return false
	case !s.b.cut && s.holding() < s.window && st.delivers(s.log, s.group, s):
		return false
	}
	st.resting[s] = wake
	return true
}

// holding counts what we hold, after forgetting what went to others meanwhile.
func (s *subscription) holding() int {
	for p := range s.held {
		if p.holder != s {
			delete(s.held, p)
		}
	}
	return len(s.held)
}

// Ack implements backend.Subscription.
func (s *subscription) Ack(d *backend.Delivery) error {
	st := s.b.store
	st.mu.Lock()
	defer st.mu.Unlock()
	p, ours := d.Token.(*pending)
	if !ours {
		return fmt.Errorf("ack: a delivery of another backend: %w", backend.ErrNotFound)
	}
	delete(s.held, p)
	if s.closed || s.b.closed || s.b.cut {
		return nil // it comes back, as what is not acked does
	}
	st.ack(s.log, s.group, p)
	return nil
}

// Close implements backend.Subscription.
func (s *subscription) Close() error {
	st := s.b.store
	st.mu.Lock()
	defer st.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	delete(s.b.subs, s)
	st.leave(s.group, s)
	return nil
}
