package kafkabackend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/deletegroups"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

var errDeletedMeanwhile = fmt.Errorf("deleted meanwhile: %w", backend.ErrNotFound)

// EnsureLog implements backend.Admin.
func (b *Backend) EnsureLog(ctx context.Context, l backend.Log) (backend.Incarnation, error) {
	what := fmt.Sprintf("make log %q", l.Name)
	if err := b.check(ctx); err != nil {
		return "", failure(what, err)
	}
	e, err := b.ensureLog(ctx, l)
	if err != nil {
		return "", failure(what, err)
	}
	return backend.Incarnation(e.Incarnation), nil
}

func (b *Backend) ensureLog(ctx context.Context, l backend.Log) (*logEntry, error) {
	e, err := b.catalog.find(ctx, l.Name)
	if err != nil && !errors.Is(err, backend.ErrNotFound) {
		return nil, err
	}
	if err == nil && e.Made {
		// Somebody may have deleted its topic. What is known of the topic is
		// enough here: a publisher or a reader finds out, and forgets it.
		if _, err := b.cluster.partitions(ctx, e.Topic); err == nil || !errors.Is(err, backend.ErrNotFound) {
			return e, err
		}
		if !b.vanished(ctx, e) {
			if err := b.check(ctx); err != nil {
				return nil, err
			}
			return e, nil
		}
		if err := b.deleteLog(ctx, e); err != nil {
			return nil, err
		}
		err = backend.ErrNotFound
	}
	if err != nil {
		if err := b.finishDeletion(ctx, l.Name); err != nil {
			return nil, err
		}
		if e, err = b.claimLog(ctx, l); err != nil {
			return nil, err
		}
	}
	if e.Made {
		return e, nil
	}
	return b.makeLog(ctx, e)
}

// claimLog appends a claim, and returns the one that holds: ours or an earlier one.
func (b *Backend) claimLog(ctx context.Context, l backend.Log) (*logEntry, error) {
	id := newID()
	ours := &logEntry{
		Name: []byte(l.Name), Incarnation: id, Topic: topicOf(b.config.TopicTemplate, l.Name, id),
		Partitions: b.config.Partitions, Ordered: l.Ordered, By: b.id,
	}
	written, err := b.catalog.claim(ctx, ours.key(), ours, func() bool {
		_, taken := b.catalog.lookup(l.Name)
		return taken
	})
	if err != nil {
		return nil, err
	}
	e, ok := b.catalog.lookup(l.Name)
	if !ok {
		return nil, errDeletedMeanwhile
	}
	if written && e.Incarnation != id {
		// It is of no use to anybody.
		return e, b.catalog.write(ctx, ours.key(), nil)
	}
	return e, nil
}

// makeLog makes the topic of a claim that holds, unless the process does so whose it is.
func (b *Backend) makeLog(ctx context.Context, e *logEntry) (*logEntry, error) {
	e, err := b.awaitMaker(ctx, e)
	if err != nil {
		return nil, err
	}
	if e.Made {
		// Whoever made the topic could use it; the broker that we ask may hear of it later.
		// One that stays unknown is asked for once more, which cannot harm one that exists.
		if !b.vanished(ctx, e) {
			return e, b.check(ctx)
		}
		if _, err := b.catalog.still(e); err != nil {
			return nil, err
		}
	}
	if err := b.makeTopic(ctx, e.Topic, e.Partitions, b.logConfig(e.Sealed)); err != nil {
		return nil, err
	}
	made := *e
	made.Made, made.Birth, made.By = true, &e.birth, b.id
	_, err = b.catalog.claim(ctx, made.key(), &made, func() bool {
		now, err := b.catalog.still(e)
		return err == nil && now.Made
	})
	if err != nil {
		return nil, err
	}
	return b.catalog.still(e)
}

// DeleteLog implements backend.Admin.
func (b *Backend) DeleteLog(ctx context.Context, log string) error {
	what := fmt.Sprintf("delete log %q", log)
	if err := b.check(ctx); err != nil {
		return failure(what, err)
	}
	e, err := b.catalog.find(ctx, log)
	if errors.Is(err, backend.ErrNotFound) {
		return failure(what, b.finishDeletion(ctx, log))
	}
	if err != nil {
		return failure(what, err)
	}
	return failure(what, b.deleteLog(ctx, e))
}

// deleteLog writes down that the log is no more, and then deletes what it had.
func (b *Backend) deleteLog(ctx context.Context, e *logEntry) error {
	m := &marker{Deleted: time.Now().UTC(), Topics: []string{e.Topic}, Keys: [][]byte{e.key()}}
	for _, g := range b.catalog.groupsOf(e.Incarnation) {
		m.Groups = append(m.Groups, b.groupOf(g))
		m.Keys = append(m.Keys, g.key())
	}
	if err := b.catalog.write(ctx, key(kindLogDeleted, e.Name), m); err != nil {
		return err
	}
	return b.finishDeletion(ctx, string(e.Name))
}

// finishDeletion deletes what a deletion left, also if whoever began it died.
// The marker stays as it is: a later one would end claims made meanwhile.
func (b *Backend) finishDeletion(ctx context.Context, name string) error {
	m := b.catalog.deletion(name)
	if m == nil || m.finished.Load() {
		return nil
	}
	for _, t := range m.Topics {
		if err := b.deleteTopic(ctx, t); err != nil {
			return err
		}
	}
	b.deleteGroups(ctx, m.Groups)
	if err := b.catalog.forget(ctx, m.Keys); err != nil {
		return err
	}
	m.finished.Store(true)
	return nil
}

// deleteGroups has the brokers forget positions. That it fails does no harm:
// they forget them by themselves in time.
func (b *Backend) deleteGroups(ctx context.Context, groups []string) {
	for _, g := range groups {
		at, err := b.cluster.coordinator(ctx, g)
		if err == nil {
			_, err = at.call(ctx, &deletegroups.Request{GroupIDs: []string{g}})
		}
		if err != nil {
			b.config.Logger.Warn("kafka: positions of a deleted group remain", "group", g, "error", err)
		}
		b.cluster.forgetCoordinator(g)
	}
}

// EnsureGroup implements backend.Admin.
func (b *Backend) EnsureGroup(ctx context.Context, log string, g backend.Group) error {
	what := fmt.Sprintf("make group %s of log %q", g.Name, log)
	if err := b.check(ctx); err != nil {
		return failure(what, err)
	}
	return failure(what, b.ensureGroup(ctx, log, g.Name))
}

func (b *Backend) ensureGroup(ctx context.Context, log, name string) error {
	l, err := b.catalog.find(ctx, log)
	if err != nil {
		return err
	}
	if _, ok := b.catalog.lookupGroup(l.Incarnation, name); ok {
		return nil
	}
	if !l.Made {
		if l, err = b.makeLog(ctx, l); err != nil {
			return err
		}
	}
	starts, err := b.ends(ctx, l)
	if err != nil {
		return err
	}
	ours := &groupEntry{Incarnation: l.Incarnation, Group: name, ID: newID(), Starts: starts, By: b.id}
	// Nothing is committed yet: what has no position is where the group began.
	written, err := b.catalog.claim(ctx, ours.key(), ours, func() bool {
		_, taken := b.catalog.lookupGroup(l.Incarnation, name)
		return taken
	})
	if err != nil {
		return err
	}
	holds, ok := b.catalog.lookupGroup(l.Incarnation, name)
	if !ok {
		return errDeletedMeanwhile
	}
	if written && holds.ID != ours.ID {
		return b.catalog.write(ctx, ours.key(), nil)
	}
	return nil
}

// ends are the offsets after the last records of a log's partitions.
func (b *Backend) ends(ctx context.Context, l *logEntry) ([]int64, error) {
	all, err := b.partitionsOf(ctx, l)
	if err != nil {
		return nil, err
	}
	return b.cluster.offset(ctx, latest, all...)
}

// partitionsOf a log. A topic that is new may not be known everywhere.
func (b *Backend) partitionsOf(ctx context.Context, l *logEntry) ([]partition, error) {
	leaders, err := b.cluster.partitions(ctx, l.Topic)
	if errors.Is(err, backend.ErrNotFound) && !b.vanished(ctx, l) {
		leaders, err = b.cluster.partitions(ctx, l.Topic)
	}
	if err != nil {
		return nil, err
	}
	all := make([]partition, len(leaders))
	for i := range all {
		all[i] = partition{l.Topic, int32(i)}
	}
	return all, nil
}

// DeleteGroup implements backend.Admin.
func (b *Backend) DeleteGroup(ctx context.Context, log, group string) error {
	what := fmt.Sprintf("delete group %s of log %q", group, log)
	if err := b.check(ctx); err != nil {
		return failure(what, err)
	}
	_, g, err := b.catalog.findGroup(ctx, log, group)
	if errors.Is(err, backend.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = b.catalog.write(ctx, key(kindGroupDeleted, []byte(g.Incarnation), []byte(g.Group)), &marker{Deleted: time.Now().UTC()})
	}
	if err != nil {
		return failure(what, err)
	}
	b.deleteGroups(ctx, []string{b.groupOf(g)})
	return nil
}

// Seal implements backend.Admin. First the catalog says so, which is where
// publishers look who are refused; then the brokers refuse.
func (b *Backend) Seal(ctx context.Context, log string) error {
	what := fmt.Sprintf("seal log %q", log)
	if err := b.check(ctx); err != nil {
		return failure(what, err)
	}
	return failure(what, b.seal(ctx, log))
}

func (b *Backend) seal(ctx context.Context, log string) error {
	e, err := b.catalog.find(ctx, log)
	if err != nil {
		return err
	}
	if !e.Made {
		if e, err = b.makeLog(ctx, e); err != nil {
			return err
		}
	}
	if !e.Sealed {
		sealed := *e
		sealed.Sealed, sealed.Birth, sealed.By = true, &e.birth, b.id
		if err := b.catalog.write(ctx, sealed.key(), &sealed); err != nil {
			return err
		}
	}
	if err := b.refuse(ctx, e.Topic); err != nil {
		return err
	}
	return b.awaitRefusal(ctx, e)
}

// awaitRefusal returns when each partition's leader refuses records. It is asked
// with a batch whose checksum is wrong: before the setting has reached it, the
// leader finds the batch corrupt; afterwards, too large.
func (b *Backend) awaitRefusal(ctx context.Context, l *logEntry) error {
	all, err := b.partitionsOf(ctx, l)
	if err != nil {
		return err
	}
	probe := beginBatch(nil)
	probe = appendWire(probe, 0, nil, []byte("a probe that no broker stores"))
	endBatch(probe, 0, 1, time.Now().UnixMilli())
	probe[batchCRCAt] ^= 0xff
	for _, p := range all {
		for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
			_, _, err := b.cluster.store(ctx, p, probe)
			if errors.Is(err, backend.ErrTooLarge) {
				break
			}
			if !errors.Is(err, kafka.InvalidMessage) {
				return failure("ask whether a partition is sealed", orStored(err))
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return contextError(ctx)
			}
		}
	}
	return nil
}

func orStored(err error) error {
	if err == nil {
		return fmt.Errorf("a batch with a wrong checksum was taken: %w", backend.ErrUnavailable)
	}
	return err
}
