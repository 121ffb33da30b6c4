package natsbackend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// duplicateWindow is the publish retry horizon (DESIGN 4).
const duplicateWindow = 10 * time.Second

// How long one process may take to change a stream's subjects, and how often
// another looks whether it is done.
const (
	shardLease = 10 * time.Second
	shardPoll  = 20 * time.Millisecond
)

// shard is one stream, which many logs share. Which logs it takes records for
// is its list of subjects: a publish to any other subject fails at once, in
// whatever process. JetStream changes the list as a whole, so changes are made
// by one at a time, and those that wait meanwhile are made together.
type shard struct {
	b      *Backend
	number int

	mu    sync.Mutex
	queue []*change
	busy  bool

	noted bool // in the catalog, that the stream was made; of work alone

	used atomic.Int64 // bytes published to it since the last anchor

	// Of Backend.anchor alone.
	anchorable bool      // the anchor's consumer exists
	anchored   time.Time // when the last anchor was left
}

// change of one subject.
type change struct {
	subject string
	add     bool
	done    chan error
}

// add has the stream take records on subject; it makes the stream if needed.
func (s *shard) add(ctx context.Context, subject string) error {
	return s.change(ctx, &change{subject: subject, add: true, done: make(chan error, 1)})
}

// remove has publishes to subject fail. What is stored stays.
func (s *shard) remove(ctx context.Context, subject string) error {
	return s.change(ctx, &change{subject: subject, done: make(chan error, 1)})
}

func (s *shard) change(ctx context.Context, c *change) error {
	s.mu.Lock()
	s.queue = append(s.queue, c)
	lead := !s.busy
	s.busy = true
	s.mu.Unlock()
	if lead && !s.b.spawn(s.work) {
		return fmt.Errorf("change subjects: %w", backend.ErrClosed)
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("change subjects: %w", contextError(ctx))
	case <-s.b.ctx.Done():
		return fmt.Errorf("change subjects: %w", backend.ErrClosed)
	}
}

// work makes changes until none are left.
func (s *shard) work() {
	for {
		s.b.entries.wait(s.b.ctx, s.b.gather)
		s.mu.Lock()
		batch := s.queue
		s.queue = nil
		if len(batch) == 0 {
			s.busy = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		// A process that died at it has its lease for a while.
		ctx, cancel := context.WithTimeout(s.b.ctx, s.b.config.RequestTimeout+shardLease)
		err := s.apply(ctx, batch)
		cancel()
		for _, c := range batch {
			c.done <- err
		}
	}
}

// apply makes a batch of changes with the shard locked against others.
func (s *shard) apply(ctx context.Context, batch []*change) error {
	if e := s.b.config.Server; e != nil {
		e.shards[s.number].Lock()
		defer e.shards[s.number].Unlock()
		return adminError("change subjects", s.update(ctx, batch))
	}
	l := s.b.newLease(fmt.Sprintf("shard.%02x", s.number), shardLease)
	defer func() { l.release(context.WithoutCancel(ctx)) }()
	for {
		err := l.acquire(ctx)
		if errors.Is(err, errConflict) {
			if !sleep(ctx, shardPoll) {
				return fmt.Errorf("change subjects: another process is at it: %w", contextError(ctx))
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := s.update(ctx, batch); err != nil {
			return adminError("change subjects", err)
		}
		if l.held() {
			return nil
		}
		// Somebody else may have changed the list at the same time.
	}
}

// createConsumer makes a consumer of the stream.
func (s *shard) createConsumer(ctx context.Context, c jetstream.ConsumerConfig) error {
	if e := s.b.config.Server; e != nil {
		e.shards[s.number].RLock()
		defer e.shards[s.number].RUnlock()
	}
	end, err := s.b.catalog.turns.take(ctx)
	if err != nil {
		return err
	}
	defer end()
	ctx, cancel := context.WithTimeout(ctx, s.b.config.RequestTimeout)
	defer cancel()
	_, err = s.b.js.CreateConsumer(ctx, s.b.names.shardStream(s.number), c)
	return err
}

// update reads the list and writes it if it changes.
func (s *shard) update(ctx context.Context, batch []*change) error {
	adds := slices.ContainsFunc(batch, func(c *change) bool { return c.add })
	stream, err := s.stream(ctx)
	var was map[string]bool
	switch {
	case !adds && (errors.Is(err, errGone) || err == nil && stream == nil):
		return nil // nothing is published to a stream that is not there
	case err != nil:
		return err
	case stream != nil:
		was = set(stream.CachedInfo().Config.Subjects)
	}
	next := map[string]bool{s.b.names.anchorSubject(s.number): true}
	maps.Copy(next, was)
	for _, c := range batch {
		if c.add {
			next[c.subject] = true
		} else {
			delete(next, c.subject)
		}
	}
	if stream == nil || !maps.Equal(next, was) {
		if _, err := s.b.js.CreateOrUpdateStream(ctx, s.config(next)); err != nil {
			return err
		}
	}
	if s.noted {
		return nil
	}
	err = s.note(ctx) // whoever made it may have died before
	s.noted = err == nil
	return err
}

// A stream that was made and is gone may come back, as when its server has passed
// over it (docs/design/jetstream-mapping.md); one that is made in its place would
// have the server drop what it held. So the catalog has a note of each stream.

// errGone: a stream was made and is not there.
var errGone = fmt.Errorf("it is not made anew by itself: %w", backend.ErrUnavailable)

// stream is the one at the broker, nil if it was never made. One that was and is
// not there is errGone, with what to do.
func (s *shard) stream(ctx context.Context) (jetstream.Stream, error) {
	name := s.b.names.shardStream(s.number)
	look := func(ctx context.Context) (jetstream.Stream, error) { return s.b.js.Stream(ctx, name) }
	stream, err := ask(ctx, s.b.catalog.turns, s.b.config.RequestTimeout, look)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return stream, err
	}
	if made, err := s.wasMade(ctx); err != nil || !made {
		return nil, err
	}
	// Another process may have made it, and the note after it, since the first look.
	stream, err = ask(ctx, s.b.catalog.turns, s.b.config.RequestTimeout, look)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("stream %s, which holds records of this and other logs, is gone: see in the broker's log why, and restore it; or, to go on without "+
			"those records, delete the messages of subject %s in stream %s: %w", name, s.b.names.shardNote(s.number), s.b.names.catalogStream(), errGone)
	}
	return stream, err
}

// wasMade tells whether the catalog has a note of the stream.
func (s *shard) wasMade(ctx context.Context) (bool, error) {
	_, err := ask(ctx, s.b.catalog.turns, s.b.config.RequestTimeout, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return s.b.catalog.stream.GetLastMsgForSubject(ctx, s.b.names.shardNote(s.number))
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	return err == nil, err
}

// note says in the catalog that the stream was made.
func (s *shard) note(ctx context.Context) error {
	if s.b.config.Memory {
		return nil // it is gone whenever its server ends
	}
	_, err := s.b.catalog.put(ctx, s.b.names.shardNote(s.number), nil, 0)
	if errors.Is(err, errConflict) {
		return nil // it is there
	}
	return err
}

func (s *shard) config(subjects map[string]bool) jetstream.StreamConfig {
	c := &s.b.config
	sc := jetstream.StreamConfig{
		Name:        s.b.names.shardStream(s.number),
		Description: "Sidestep: records of the logs of one shard",
		Subjects:    slices.Sorted(maps.Keys(subjects)),
		// A record is kept until every group that existed has acked it.
		Retention:  jetstream.InterestPolicy,
		Discard:    jetstream.DiscardNew,
		Duplicates: duplicateWindow,
		// For the anchor.
		AllowMsgTTL: true,
		Replicas:    c.Replicas,
		MaxBytes:    c.MaxBytesPerShard,
	}
	if c.Memory {
		sc.Storage = jetstream.MemoryStorage
	}
	if c.MaxBytesPerShard == 0 {
		sc.MaxBytes = -1
	}
	if c.MaxRecordsPerLog > 0 {
		sc.MaxMsgsPerSubject = c.MaxRecordsPerLog
		sc.DiscardNewPerSubject = true
	}
	return sc
}

func set(items []string) map[string]bool {
	m := make(map[string]bool, len(items))
	for _, i := range items {
		m[i] = true
	}
	return m
}

// sleep waits, and tells whether it waited to the end.
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
