package kafkabackend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// Backend is one process's connection to a Kafka cluster.
type Backend struct {
	config  Config
	id      string // of this process, in the catalog
	since   time.Time
	limits  backend.Limits
	life    context.Context
	end     context.CancelCauseFunc
	crew    *crew
	cluster *cluster
	catalog *catalog
	fleet   *fleet
	commits batcher[*desk]
	flush   batcher[*share]
	making  batcher[*making]
	expired atomic.Int64
	ids     atomic.Uint64

	closing sync.Once
	closed  chan struct{}
	over    atomic.Bool
}

var _ backend.Backend = (*Backend)(nil)

// closeWait bounds how long Close waits while we are connected: another process
// may have died that has not committed what was acked, and is found out by then.
func (b *Backend) closeWait() time.Duration { return 2*b.config.AckWait + time.Second }

// commitLanes is how many commits are under way at once.
const commitLanes = 3

// Connect opens a connection, and makes Sidestep's own topics if they are
// missing. ctx bounds that.
func Connect(ctx context.Context, c Config) (*Backend, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	d, err := c.dialer()
	if err != nil {
		return nil, err
	}
	b := &Backend{
		config: c, id: newID(), since: time.Now(), limits: backend.Limits{MaxRecordBytes: c.MaxRecordBytes},
		crew: &crew{}, closed: make(chan struct{}),
	}
	b.life, b.end = context.WithCancelCause(context.Background())
	b.cluster = newCluster(b.life, d, c.Brokers, c.RequestTimeout, b.crew)
	b.catalog = newCatalog(b.cluster)
	b.catalog.tail = newTail(b.cluster, c.Prefix+".catalog", c.Logger, b.catalog.apply)
	b.catalog.tail.taken = b.catalog.tell
	b.catalog.gone = b.groupsGone
	b.fleet = newFleet(b, b.cluster, c.AckWait, c.Logger)
	b.fleet.tail = newTail(b.cluster, c.Prefix+".fleet", c.Logger, b.fleet.apply)
	b.fleet.tail.skipped = b.fleet.skipped
	b.commits = batcher[*desk]{lanes: commitLanes, most: 1, group: b.crew, run: func(d []*desk) { d[0].commit() }}
	b.flush = batcher[*share]{lanes: 1, most: 1, group: b.crew, run: func(s []*share) { s[0].flush() }}
	b.making = batcher[*making]{lanes: 2, most: perRequest / 5, group: b.crew, run: b.makeTopics}
	if err := b.open(ctx); err != nil {
		b.over.Store(true)
		b.shut()
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return b, nil
}

func (b *Backend) open(ctx context.Context) error {
	if err := b.makeOwnTopics(ctx); err != nil {
		return err
	}
	b.crew.Go(b.catalog.tail.run)
	b.crew.Go(b.refresh)
	if err := b.catalog.tail.sync(ctx); err != nil {
		return err
	}
	b.catalog.attend()
	return nil
}

// shut ends all goroutines and connections.
func (b *Backend) shut() {
	b.end(fmt.Errorf("kafka: %w", backend.ErrClosed))
	b.cluster.close()
	b.crew.close()
	b.cluster.close() // what came back meanwhile
}

// Limits implements backend.Backend.
func (b *Backend) Limits() backend.Limits { return b.limits }

// Room implements backend.Publisher. A broker's free disk cannot be asked for.
func (b *Backend) Room(string) error { return nil }

// Expired is how many records the broker removed before they were acked, as far
// as this process has seen: those beyond Config.Retention, or removed by hand.
func (b *Backend) Expired() int64 { return b.expired.Load() }

// Close implements backend.Backend. It waits until what was acked is committed, at
// most until ctx ends or the brokers are away.
func (b *Backend) Close(ctx context.Context) error {
	b.closing.Do(func() {
		defer close(b.closed)
		b.over.Store(true)
		b.leave(ctx)
		b.shut()
	})
	<-b.closed
	return nil
}

// leave ends all subscriptions, has the last positions committed, and tells the
// other processes.
func (b *Backend) leave(ctx context.Context) {
	f := b.fleet
	f.mu.Lock()
	var members []*member
	for _, s := range f.shares {
		s.mu.Lock()
		members = append(members, s.members...)
		s.mu.Unlock()
	}
	f.mu.Unlock()
	var told []chan error
	for _, m := range members {
		m.closing.Do(func() {
			defer close(m.closed)
			m.s.mu.Lock()
			m.fail(backend.ErrClosed)
			m.s.mu.Unlock()
			told = append(told, m.s.withdraw(m)...)
		})
	}
	ctx, cancel := context.WithTimeout(ctx, b.closeWait())
	defer cancel()
	b.patiently(ctx, told...)
	for !f.quiet() && f.holding() && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if done := f.leave(); done != nil {
		b.patiently(ctx, done)
	}
}

// patiently waits until messages are stored, unless the broker is away.
func (b *Backend) patiently(ctx context.Context, told ...chan error) {
	for _, t := range told {
		for answered := false; !answered; {
			check := time.NewTimer(50 * time.Millisecond)
			select {
			case <-t:
				answered = true
			case <-check.C:
				if !b.fleet.holding() {
					return
				}
			case <-ctx.Done():
				return
			case <-b.life.Done():
				return
			}
			check.Stop()
		}
	}
}

// check says ErrClosed once the backend is.
func (b *Backend) check(ctx context.Context) error {
	if b.over.Load() {
		return backend.ErrClosed
	}
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	return nil
}

// Subscribe implements backend.Subscriber.
func (b *Backend) Subscribe(ctx context.Context, log, group string, o backend.Options) (backend.Subscription, error) {
	what := fmt.Sprintf("subscribe to group %s of log %q", group, log)
	if err := b.check(ctx); err != nil {
		return nil, failure(what, err)
	}
	l, g, err := b.catalog.findGroup(ctx, log, group)
	if err != nil {
		return nil, failure(what, err)
	}
	f := b.fleet
	if err := f.join(ctx); err != nil {
		return nil, failure(what, err)
	}
	if o.Window <= 0 {
		o.Window = 64
	}
	if o.Buffer <= 0 {
		o.Buffer = 64 << 10
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if b.over.Load() {
		return nil, failure(what, backend.ErrClosed)
	}
	s := f.shares[g.ID]
	if s == nil {
		s = &share{b: b, log: l, group: g, part: part{me: f.roster.me}}
		f.shares[g.ID] = s
	}
	m := &member{
		s: s, id: b.ids.Add(1), window: o.Window, buffer: o.Buffer, held: make(map[place]*hold),
		readers: make(map[int32]*grantReader), wake: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	if err := s.enroll(m); err != nil {
		return nil, failure(what, err)
	}
	// It may have been deleted between our look at the catalog and now.
	if now, ok := b.catalog.lookupGroup(l.Incarnation, group); !ok || now.ID != g.ID {
		b.crew.Go(func() { s.end(errDeleted) })
	}
	return m, nil
}

// groupsGone ends the subscriptions of groups that were deleted.
func (b *Backend) groupsGone(ids []string) {
	for _, id := range ids {
		b.fleet.mu.Lock()
		s := b.fleet.shares[id]
		b.fleet.mu.Unlock()
		if s != nil {
			s.end(errDeleted)
		}
	}
}

// gone is for how long a topic must be unknown, to brokers that know the
// catalog's, and then to each of them, to count as deleted: brokers that start, or lag,
// know less.
const gone = 3 * time.Second

// locate finds the broker that leads a partition, however long that takes, until
// over says that it is not wanted any more. nil: it is not, or the topic is gone.
func (b *Backend) locate(p partition, over func() bool) *broker {
	var since time.Time
	for pause := 5 * time.Millisecond; !over(); pause = min(2*pause, 500*time.Millisecond) {
		found, err := b.cluster.leader(b.life, p)
		if err == nil {
			return found
		}
		b.cluster.forget(p.topic)
		if !errors.Is(err, backend.ErrNotFound) {
			since = time.Time{}
		} else if _, err := b.cluster.refresh(b.life, b.catalog.tail.at.topic); err != nil {
			since = time.Time{}
		} else if since.IsZero() {
			since = time.Now()
		} else if time.Since(since) > gone && b.cluster.nobodyKnows(b.life, p.topic) {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-b.life.Done():
			return nil
		}
	}
	return nil
}

// vanished: nobody has known the log's topic for a while.
func (b *Backend) vanished(ctx context.Context, l *logEntry) bool {
	over := func() bool { return ctx.Err() != nil }
	return b.locate(partition{l.Topic, 0}, over) == nil && ctx.Err() == nil && b.life.Err() == nil
}

// refresh looks for partitions that were added, and commits anew what has long
// been idle: brokers forget positions after a week.
func (b *Backend) refresh() {
	tick := time.NewTicker(b.config.Refresh)
	defer tick.Stop()
	for committed := time.Now(); ; {
		select {
		case <-tick.C:
		case <-b.life.Done():
			return
		}
		again := time.Since(committed) > recommit
		if again {
			committed = time.Now()
		}
		b.refreshOnce(again)
	}
}

// recommit is how often an idle position is committed.
const recommit = time.Hour

func (b *Backend) refreshOnce(recommit bool) {
	f := b.fleet
	f.mu.Lock()
	shares := make([]*share, 0, len(f.shares))
	for _, s := range f.shares {
		shares = append(shares, s)
	}
	f.mu.Unlock()
	var wishes []*lookup
	seen := make(map[string]bool)
	for _, s := range shares {
		if !seen[s.log.Topic] {
			seen[s.log.Topic] = true
			wishes = append(wishes, &lookup{topic: s.log.Topic, done: make(chan struct{})})
		}
	}
	b.cluster.look.add(wishes...)
	for _, w := range wishes {
		select {
		case <-w.done:
		case <-b.life.Done():
			return
		}
	}
	for _, s := range shares {
		n := len(b.cluster.known(s.log.Topic))
		s.mu.Lock()
		if d := s.desk; d != nil {
			d.grow(n)
			if recommit {
				for _, c := range d.cursors {
					c.soil()
				}
			}
		}
		s.mu.Unlock()
	}
}

// Topic is the Kafka topic with a log's records. Other programs may read it, and
// write to it, as the CloudEvents Kafka protocol binding says.
func (b *Backend) Topic(ctx context.Context, log string) (string, error) {
	e, err := b.catalog.find(ctx, log)
	if err != nil {
		return "", failure(fmt.Sprintf("find the topic of log %q", log), err)
	}
	return e.Topic, nil
}
