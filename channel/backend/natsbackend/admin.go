package natsbackend

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// EnsureLog implements backend.Admin. The entry in the catalog comes first and
// the subject second: whoever finds the one without the other adds it.
func (b *Backend) EnsureLog(ctx context.Context, l backend.Log) (backend.Incarnation, error) {
	for late := 0; ; {
		i, err := b.ensureLog(ctx, l, late > 0)
		if err == nil {
			return i, nil
		}
		if errors.Is(err, errConflict) {
			continue
		}
		if late++; !again(ctx, err, late) {
			return "", fmt.Errorf("ensure log %q: %w", l.Name, err)
		}
	}
}

// ensureLog makes the log unless it is there. unsure: we may have begun to make it
// ourselves, and not know how far we came.
func (b *Backend) ensureLog(ctx context.Context, l backend.Log, unsure bool) (backend.Incarnation, error) {
	e, made, err := b.ensureEntry(ctx, l)
	switch {
	case err != nil:
	case e.State == deleting: // by somebody who died at it
		if _, err = b.finishDelete(ctx, e); err == nil {
			err = errConflict
		}
	case made, unsure && e.State == live:
		err = b.shards[e.shard].add(ctx, e.subject)
	}
	return e.Incarnation, err
}

// ensureEntry has the log be in the catalog, unless it is being deleted.
func (b *Backend) ensureEntry(ctx context.Context, l backend.Log) (e entry, made bool, err error) {
	b.entries.enter()
	defer b.entries.leave()
	if e, err = b.catalog.read(ctx, l.Name); err != nil || e.State != deleted {
		return e, false, err
	}
	e.Incarnation, e.Ordered, e.State = newIncarnation(), l.Ordered, live
	e, err = b.catalog.write(ctx, e)
	return e, true, err
}

// DeleteLog implements backend.Admin.
func (b *Backend) DeleteLog(ctx context.Context, log string) error {
	for {
		e, err := b.catalog.read(ctx, log)
		if err == nil && (e.State == live || e.State == sealed) {
			e.State = deleting
			e, err = b.catalog.write(ctx, e)
		}
		if err == nil && e.State == deleting {
			_, err = b.finishDelete(ctx, e)
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, errConflict) {
			return fmt.Errorf("delete log %q: %w", log, err)
		}
	}
}

// finishDelete removes all there is of a log that is marked as being deleted:
// its subject, so that nothing more comes in; its consumers; its records. The
// entry comes last, since it is what says that there is something to remove.
func (b *Backend) finishDelete(ctx context.Context, e entry) (entry, error) {
	if err := b.shards[e.shard].remove(ctx, e.subject); err != nil {
		return e, err
	}
	stream, err := b.js.Stream(ctx, b.names.shardStream(e.shard))
	if err == nil {
		err = b.empty(ctx, stream, e.subject)
	}
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return e, adminError("remove what a log held", err)
	}
	b.endMembers(func(m *member) bool { return m.entry.Incarnation == e.Incarnation })
	e.State = deleted
	return b.catalog.write(ctx, e)
}

func (b *Backend) empty(ctx context.Context, stream jetstream.Stream, subject string) error {
	list := stream.ListConsumers(ctx)
	var names []string
	for i := range list.Info() {
		if i.Config.FilterSubject == subject {
			names = append(names, i.Name)
		}
	}
	if err := list.Err(); err != nil {
		return err
	}
	for _, n := range names {
		if err := stream.DeleteConsumer(ctx, n); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return err
		}
	}
	return stream.Purge(ctx, jetstream.WithPurgeSubject(subject))
}

// Seal implements backend.Admin: it takes the subject away.
func (b *Backend) Seal(ctx context.Context, log string) error {
	for {
		e, err := b.catalog.fetch(ctx, log)
		if err != nil {
			return fmt.Errorf("seal: %w", err)
		}
		if e.State == live {
			e.State = sealed
			if e, err = b.catalog.write(ctx, e); errors.Is(err, errConflict) {
				continue
			}
			if err != nil {
				return fmt.Errorf("seal log %q: %w", log, err)
			}
		}
		// Again even if it was sealed: whoever began it may have died.
		return b.shards[e.shard].remove(ctx, e.subject)
	}
}

// EnsureGroup implements backend.Admin.
func (b *Backend) EnsureGroup(ctx context.Context, log string, g backend.Group) error {
	for late := 1; ; late++ {
		err := b.ensureGroup(ctx, log, g)
		if err == nil || !again(ctx, err, late) {
			return err
		}
	}
}

func (b *Backend) ensureGroup(ctx context.Context, log string, g backend.Group) error {
	e, err := b.catalog.fetch(ctx, log)
	if err != nil {
		return fmt.Errorf("ensure group %s: %w", g.Name, err)
	}
	// The server writes a file to make a consumer, even if it is there already.
	_, err = b.consumerInfo(ctx, e.shard, consumer(e.Incarnation, g.Name))
	if err == nil {
		return nil
	}
	if errors.Is(err, backend.ErrNotFound) {
		err = b.createConsumer(ctx, e, g.Name)
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) && e.State == live {
		if err = b.shards[e.shard].add(ctx, e.subject); err == nil {
			err = b.createConsumer(ctx, e, g.Name)
		}
	}
	if err != nil {
		return adminError(fmt.Sprintf("ensure group %s of log %q", g.Name, log), err)
	}
	return nil
}

// createConsumer pins a start position: the server takes the sequence that
// comes next as it makes the consumer.
func (b *Backend) createConsumer(ctx context.Context, e entry, group string) error {
	err := b.shards[e.shard].createConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       consumer(e.Incarnation, group),
		Description:   group,
		FilterSubject: e.subject,
		DeliverPolicy: jetstream.DeliverNewPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       b.config.AckWait,
		MaxDeliver:    -1,
		MaxAckPending: -1, // members ask for no more than they may hold
	})
	if errors.Is(err, jetstream.ErrConsumerExists) || hasCode(err, codeConsumerExists) ||
		hasCode(err, codeConsumerNameExists) {
		return nil // made with other settings: its position is what counts
	}
	return err
}

// DeleteGroup implements backend.Admin.
func (b *Backend) DeleteGroup(ctx context.Context, log, group string) error {
	e, err := b.catalog.read(ctx, log)
	if err != nil {
		return fmt.Errorf("delete group %s: %w", group, err)
	}
	if e.State == deleted {
		return nil
	}
	name := consumer(e.Incarnation, group)
	err = b.js.DeleteConsumer(ctx, b.names.shardStream(e.shard), name)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return adminError(fmt.Sprintf("delete group %s of log %q", group, log), err)
	}
	b.endMembers(func(m *member) bool { return m.consumer == name })
	return nil
}

// Lag implements backend.Admin.
func (b *Backend) Lag(ctx context.Context, log, group string) (backend.Lag, error) {
	e, err := b.catalog.fetch(ctx, log)
	if err != nil {
		return backend.Lag{}, fmt.Errorf("lag: %w", err)
	}
	i, err := b.consumerInfo(ctx, e.shard, consumer(e.Incarnation, group))
	if err != nil {
		return backend.Lag{}, fmt.Errorf("lag of group %s of log %q: %w", group, log, err)
	}
	lag := backend.Lag{Records: int64(i.NumPending) + int64(i.NumAckPending)}
	if lag.Records == 0 {
		return lag, nil
	}
	// All up to the floor are acked, and the first record of this log above
	// it is not.
	s, err := b.js.Stream(ctx, b.names.shardStream(e.shard))
	if err != nil {
		return lag, adminError("see the oldest record", err)
	}
	m, err := s.GetMsg(ctx, i.AckFloor.Stream+1, jetstream.WithGetMsgSubject(e.subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return backend.Lag{}, nil // it was acked meanwhile
	}
	if err != nil {
		return lag, adminError("see the oldest record", err)
	}
	lag.Oldest = m.Time
	return lag, nil
}

// consumerInfo of a group. ErrNotFound: there is none, and there is no more to be
// had from it. A stream that is gone may come back, and its groups with it.
func (b *Backend) consumerInfo(ctx context.Context, shard int, name string) (*jetstream.ConsumerInfo, error) {
	look := func(ctx context.Context) (jetstream.Consumer, error) {
		return b.js.Consumer(ctx, b.names.shardStream(shard), name)
	}
	c, err := ask(ctx, b.catalog.turns, b.config.RequestTimeout, look)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		var stream jetstream.Stream
		stream, err = b.shards[shard].stream(ctx)
		switch {
		case err == nil && stream == nil:
			return nil, backend.ErrNotFound
		case err == nil: // it was being made
			c, err = ask(ctx, b.catalog.turns, b.config.RequestTimeout, look)
		}
	}
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, backend.ErrNotFound
	}
	if err != nil {
		return nil, adminError("ask for consumer", err)
	}
	return c.CachedInfo(), nil
}
