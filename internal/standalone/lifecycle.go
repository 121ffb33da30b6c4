package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// ensureLimit bounds the calls under way to make logs and groups. Many at once
// are cheap, and a backend may make those that wait for one another together:
// JetStream spends most of its time on each change of what a stream takes.
const ensureLimit = 4096

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
	brokers    *brokers // that logs are placed on; nil: there is one backend
	dispatcher *channel.Dispatcher
	logger     *slog.Logger

	// discarded counts records that a removal did not wait for.
	discarded prometheus.Counter

	mu    sync.Mutex // held while the table changes
	state *state
}

// apply brings the logs, groups and the dispatcher's table to what is wanted,
// which build makes with the UIDs that it is given. An error leaves the table
// as it was; logs and groups may have been added.
func (l *lifecycle) apply(
	ctx context.Context, drain time.Duration, build func(uid func(kind, namespace, name string) string) (*channel.Table, error),
) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	want, err := build(l.state.uid)
	if err != nil {
		return err
	}
	table, deadlines := l.state.Table, maps.Clone(l.state.Deadlines)
	next, err := l.state.plan(want, time.Now(), drain)
	if err == nil {
		shared := sharing(&table, next)
		if shared != nil {
			table = *shared // also if this fails: groups may have been made
		}
		err = l.carryOut(ctx, shared, next)
	}
	if err != nil {
		// The file may be ahead of what is true now. A restart makes good
		// what it names, or drains it.
		l.state.Table, l.state.Deadlines = table, deadlines
	}
	return err
}

// carryOut writes down first what it is about to do: the UIDs name groups, and
// an event that was accepted into a group whose UID is forgotten is lost.
func (l *lifecycle) carryOut(ctx context.Context, shared, next *channel.Table) error {
	l.state.Table = *next
	if l.brokers != nil {
		if err := l.brokers.place(next); err != nil {
			return err
		}
	}
	if err := l.state.save(); err != nil {
		return err
	}
	if shared != nil && l.dispatcher.Epoch() > 0 {
		if _, err := l.dispatcher.Apply(shared); err != nil {
			return err
		}
	}
	if err := l.ensure(ctx, next); err != nil {
		return err
	}
	_, err := l.dispatcher.Apply(next)
	return err
}

// ensure makes what is missing. A subscription is part of the table only when
// its group has a position: an event published from then on reaches it.
func (l *lifecycle) ensure(ctx context.Context, t *channel.Table) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(ensureLimit)
	// In any order: processes that start together then make most logs once.
	for _, i := range rand.Perm(len(t.Channels)) {
		c := t.Channels[i]
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

// removeDrained looks at each removal once. Each changes the table, and with it
// what the next one stands in; and one that fails holds up no other.
func (l *lifecycle) removeDrained(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	seen := make(map[string]bool)
	for {
		removals := l.state.removals()
		i := slices.IndexFunc(removals, func(r removal) bool { return !seen[r.key()] })
		if i < 0 {
			return errors.Join(errs...)
		}
		seen[removals[i].key()] = true
		if err := l.removeIfDrained(ctx, removals[i]); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", removals[i], err))
		}
	}
}

func (l *lifecycle) removeIfDrained(ctx context.Context, r removal) error {
	// In this order: once nobody works from an older table, and nothing in
	// the current one adds to it, what is counted is all there will be.
	still := l.state.fed(r) || l.dispatcher.Observed() < l.dispatcher.Epoch()
	left, err := l.left(ctx, r)
	if err != nil {
		return err
	}
	if (still || left > 0) && time.Now().Before(r.until) {
		return nil
	}
	return l.remove(ctx, r, left)
}

// left counts the records that have yet to be settled.
func (l *lifecycle) left(ctx context.Context, r removal) (int64, error) {
	var left int64
	for _, s := range r.groups() {
		lag, err := l.backend.Lag(ctx, r.channel.Log().Name, s.UID)
		if errors.Is(err, backend.ErrNotFound) {
			continue // a removal that broke off had come so far
		}
		if err != nil {
			return 0, err
		}
		left += lag.Records
	}
	return left, nil
}

// oldest is when the oldest record of a namespace that some group has yet to settle
// was stored; zero if there is none.
func (l *lifecycle) oldest(ctx context.Context, namespace string) (time.Time, error) {
	l.mu.Lock()
	channels := l.state.Table.Channels
	l.mu.Unlock()
	var oldest time.Time
	for _, c := range channels {
		if c.Namespace != namespace {
			continue
		}
		for _, s := range c.Subscriptions {
			lag, err := l.backend.Lag(ctx, c.Log().Name, s.UID)
			if errors.Is(err, backend.ErrNotFound) {
				continue // a removal that broke off had come so far
			}
			if err != nil {
				return time.Time{}, err
			}
			if !lag.Oldest.IsZero() && (oldest.IsZero() || lag.Oldest.Before(oldest)) {
				oldest = lag.Oldest
			}
		}
	}
	return oldest, nil
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
	if err := l.delete(ctx, r); err != nil {
		return err // it stays in the state, and its turn comes again
	}
	l.state.done(r, next)
	if left > 0 {
		l.discarded.Add(float64(left))
		l.logger.Warn("removed before it was drained; the rest is discarded", "what", r.String(), "records", left)
	} else {
		l.logger.Info("removed", "what", r.String())
	}
	return l.state.save()
}

// delete takes r out of the backend.
func (l *lifecycle) delete(ctx context.Context, r removal) error {
	log := r.channel.Log().Name
	if r.sub == nil {
		return l.backend.DeleteLog(ctx, log)
	}
	return l.backend.DeleteGroup(ctx, log, r.sub.UID)
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
