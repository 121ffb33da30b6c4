package standalone

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// ensureLimit bounds the calls under way to make logs and groups.
const ensureLimit = 64

// drainPoll is how often what drains is looked at.
const drainPoll = 250 * time.Millisecond

// How long a removal waits for those who work from an older table.
const (
	observePoll  = 20 * time.Millisecond
	observeTries = 100
)

// lifecycle makes the logs and groups that a table needs before the table is
// applied, and removes what is no longer needed after nothing works from it any
// more. On a cluster the controller does this.
type lifecycle struct {
	backend    backend.Backend
	dispatcher *channel.Dispatcher
	logger     *slog.Logger

	mu    sync.Mutex // held while the table changes
	state *state
	drain time.Duration
}

// apply brings the logs, groups and the dispatcher's table to what is wanted.
// An error leaves the table as it was; logs and groups may have been added.
func (l *lifecycle) apply(ctx context.Context, want *channel.Table, drain time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drain = drain
	deadlines := maps.Clone(l.state.Deadlines)
	next, err := l.state.plan(want, time.Now(), drain)
	if err == nil {
		err = l.ensure(ctx, next)
	}
	if err == nil {
		_, err = l.dispatcher.Apply(next)
	}
	if err != nil {
		l.state.Deadlines = deadlines
		return err
	}
	l.state.Table = *next
	return l.state.save()
}

// uid is that of an object, kept from run to run.
func (l *lifecycle) uid(kind, namespace, name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.uid(kind, namespace, name)
}

// ensure makes what is missing. A subscription is part of the table only when
// its group has a position: an event published from then on reaches it.
func (l *lifecycle) ensure(ctx context.Context, t *channel.Table) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(ensureLimit)
	for _, c := range t.Channels {
		g.Go(func() error {
			log := c.Log()
			if _, err := l.backend.EnsureLog(ctx, log); err != nil {
				return fmt.Errorf("make log of channel %s: %w", log.Name, err)
			}
			for _, s := range c.Subscriptions {
				if err := l.backend.EnsureGroup(ctx, log.Name, backend.Group{Name: s.UID}); err != nil {
					return fmt.Errorf("make group of subscription %s/%s: %w", s.Namespace, s.Name, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// run removes what has drained, until ctx ends.
func (l *lifecycle) run(ctx context.Context) {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := l.removeDrained(ctx); err != nil && ctx.Err() == nil {
			l.logger.Error("removing what has drained; trying again", "error", err)
		}
	}
}

func (l *lifecycle) removeDrained(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.state.removals() {
		left, err := l.left(ctx, r)
		if err != nil {
			return err
		}
		if left > 0 && time.Now().Before(r.until) {
			continue
		}
		if err := l.remove(ctx, r, left); err != nil {
			return fmt.Errorf("remove %s: %w", r, err)
		}
	}
	return nil
}

// left counts what has yet to be settled. Publishes and chains that began by an
// older table may still add to it: until they are over, it counts as something.
func (l *lifecycle) left(ctx context.Context, r removal) (int64, error) {
	if l.dispatcher.Observed() < l.dispatcher.Epoch() {
		return 1, nil
	}
	var left int64
	for _, s := range r.groups() {
		lag, err := l.backend.Lag(ctx, r.channel.Log().Name, s.UID)
		if err != nil {
			return 0, fmt.Errorf("see what %s has left: %w", r, err)
		}
		left += lag.Records
	}
	return left, nil
}

// remove takes r out of the table, waits a while for those who still work from
// it, and then takes it out of the backend.
func (l *lifecycle) remove(ctx context.Context, r removal, left int64) error {
	next := l.state.without(r)
	epoch, err := l.dispatcher.Apply(next)
	if err != nil {
		return err
	}
	// Whoever still works from an older table and publishes to the log later
	// than this is told that it is gone, and runs the record again by the
	// current table: waiting saves work, no more.
	for i := 0; i < observeTries && l.dispatcher.Observed() < epoch; i++ {
		if !sleep(ctx, observePoll) {
			return context.Cause(ctx)
		}
	}
	log := r.channel.Log().Name
	if r.sub != nil {
		err = l.backend.DeleteGroup(ctx, log, r.sub.UID)
		delete(l.state.Deadlines, r.sub.UID)
	} else {
		err = l.backend.DeleteLog(ctx, log)
		delete(l.state.Deadlines, log)
	}
	if err != nil {
		return err
	}
	for _, s := range r.groups() {
		l.state.forget(s.UID)
	}
	l.state.Table = *next
	if left > 0 {
		l.logger.Warn("removed before it was drained; the rest is discarded", "what", r.String(), "records", left)
	} else {
		l.logger.Info("removed", "what", r.String())
	}
	return l.state.save()
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
