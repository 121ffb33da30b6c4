package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/swapbackend"
)

const (
	// openTimeout bounds the opening of a backend.
	openTimeout  = 30 * time.Second
	closeTimeout = 5 * time.Second
)

// Pool opens and closes the backends that logs are on: the members of a
// swapbackend.Backend, by the IDs of their Specs. Its methods are not called at the same
// time, but for Dial.
type Pool struct {
	Swap   *swapbackend.Backend
	open   Open
	logger *slog.Logger
}

// NewPool makes a Pool without members. The Backend is to be closed by the caller.
func NewPool(swap *swapbackend.Backend, open Open, logger *slog.Logger) *Pool {
	return &Pool{Swap: swap, open: open, logger: logger}
}

// Add opens a backend unless it is open. threshold is the most bytes of data that
// travel in a record: a backend that does not take them is refused.
func (p *Pool) Add(ctx context.Context, s Spec, threshold int64) error {
	id := s.ID()
	if p.Swap.Member(id) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	m, err := p.open(ctx, s, p.logger.With("backend", id))
	if err != nil {
		return fmt.Errorf("open backend %s: %w", id, err)
	}
	if err := fits(m, threshold); err != nil {
		return errors.Join(fmt.Errorf("open backend %s: %w", id, err), m.Close(ctx))
	}
	if err := p.Swap.Add(id, m); err != nil { // it was closed meanwhile
		return errors.Join(fmt.Errorf("open backend %s: %w", id, err), m.Close(ctx))
	}
	return nil
}

// Fits refuses a threshold that one of the backends that are open does not take.
func (p *Pool) Fits(threshold int64) error {
	for _, id := range p.Swap.Members() {
		if m := p.Swap.Member(id); m != nil {
			if err := fits(m, threshold); err != nil {
				return fmt.Errorf("backend %s: %w", id, err)
			}
		}
	}
	return nil
}

// Keep closes the backends that are not used and that no log is on.
func (p *Pool) Keep(ctx context.Context, used func(id string) bool) {
	for _, id := range p.Swap.Members() {
		if used(id) {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, closeTimeout)
		if err := p.Swap.Remove(ctx, id); err != nil {
			p.logger.Warn("closing a backend that is no longer used", "backend", id, "error", err)
		} else {
			p.logger.Info("closed a backend that is no longer used", "backend", id)
		}
		cancel()
	}
}

// Dial makes one more connection to the server of a backend; false: it is not
// JetStream's, or not open.
func (p *Pool) Dial(id, name string) (*nats.Conn, bool, error) {
	d, ok := p.Swap.Member(id).(interface {
		Dial(name string) (*nats.Conn, error)
	})
	if !ok {
		return nil, false, nil
	}
	c, err := d.Dial(name)
	return c, true, err
}

// errSmall: a backend does not take what travels in a record.
var errSmall = errors.New("it does not take records that are large enough")

// fits refuses a backend that does not take events with data up to the threshold.
func fits(b backend.Backend, threshold int64) error {
	if most := int64(b.Limits().MaxRecordBytes - channel.MaxAttributeBytes); threshold > most {
		return fmt.Errorf("%w: claim-check.threshold is %d bytes, and it takes %d at most beside an event's attributes", errSmall, threshold, most)
	}
	return nil
}
