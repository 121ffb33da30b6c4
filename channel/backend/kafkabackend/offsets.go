package kafkabackend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/segmentio/kafka-go/protocol/offsetcommit"
	"github.com/segmentio/kafka-go/protocol/offsetfetch"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// atCoordinator asks the broker that keeps a consumer group's offsets.
func (b *Backend) atCoordinator(ctx context.Context, group string, do func(*broker) error) error {
	return b.cluster.at(ctx, "", func() error {
		at, err := b.cluster.coordinator(ctx, group)
		if err == nil {
			err = do(at)
		}
		if err != nil {
			b.cluster.forgetCoordinator(group)
		}
		return err
	})
}

// commitPositions stores positions. A plain commit, of a consumer group without
// members, is taken from anyone: it is the fleet that sees to it that only a
// group's leader commits. One that comes late can only have records delivered
// again, since what it says is settled has been acked.
func (b *Backend) commitPositions(ctx context.Context, l *logEntry, g *groupEntry, at map[int32]position) error {
	t := offsetcommit.RequestTopic{Name: l.Topic}
	for i, p := range at {
		t.Partitions = append(t.Partitions, offsetcommit.RequestPartition{
			PartitionIndex: i, CommittedOffset: p.prefix, CommittedLeaderEpoch: -1, CommittedMetadata: p.encode(),
		})
	}
	group := b.groupOf(g)
	return b.atCoordinator(ctx, group, func(at *broker) error {
		answer, err := at.call(ctx, &offsetcommit.Request{
			GroupID: group, GenerationID: -1, RetentionTimeMs: -1, Topics: []offsetcommit.RequestTopic{t},
		})
		if err != nil {
			return failure("commit", err)
		}
		a, _ := answer.(*offsetcommit.Response)
		for _, t := range a.Topics {
			for _, p := range t.Partitions {
				if err := brokerError(p.ErrorCode); err != nil {
					return failure("commit", err)
				}
			}
		}
		return nil
	})
}

// positions reads a group's position in each of n partitions. Where none is
// committed, it is where the group began.
func (b *Backend) positions(ctx context.Context, l *logEntry, g *groupEntry, n int) ([]position, error) {
	at := make([]position, n)
	t := offsetfetch.RequestTopic{Name: l.Topic}
	for i := range at {
		at[i].prefix = g.start(int32(i))
		t.PartitionIndexes = append(t.PartitionIndexes, int32(i))
	}
	group := b.groupOf(g)
	err := b.atCoordinator(ctx, group, func(c *broker) error {
		answer, err := c.call(ctx, &offsetfetch.Request{GroupID: group, Topics: []offsetfetch.RequestTopic{t}})
		if err != nil {
			return failure("read positions", err)
		}
		a, _ := answer.(*offsetfetch.Response)
		// That of which nothing was committed is no group to some brokers.
		if err := brokerError(a.ErrorCode); err != nil && !errors.Is(err, kafka.GroupIdNotFound) {
			return failure("read positions", err)
		}
		for _, t := range a.Topics {
			for _, p := range t.Partitions {
				if err := brokerError(p.ErrorCode); err != nil && !errors.Is(err, backend.ErrNotFound) {
					return failure("read positions", err)
				}
				b.takePosition(at, &p, group)
			}
		}
		return nil
	})
	return at, err
}

func (b *Backend) takePosition(at []position, p *offsetfetch.ResponsePartition, group string) {
	i := int(p.PartitionIndex)
	if p.CommittedOffset < 0 || i < 0 || i >= len(at) {
		return
	}
	var err error
	if at[i], err = decodePosition(p.CommittedOffset, p.Metadata); err != nil {
		b.config.Logger.Warn("kafka: a position was committed by another program; what is acked above it is delivered again",
			"group", group, "partition", i, "error", err)
	}
}

// Lag implements backend.Admin. It is of the last commit.
func (b *Backend) Lag(ctx context.Context, log, group string) (backend.Lag, error) {
	what := fmt.Sprintf("lag of group %s of log %q", group, log)
	if err := b.check(ctx); err != nil {
		return backend.Lag{}, failure(what, err)
	}
	l, g, err := b.catalog.findGroup(ctx, log, group)
	if err != nil {
		return backend.Lag{}, failure(what, err)
	}
	lag, err := b.lag(ctx, l, g)
	return lag, failure(what, err)
}

func (b *Backend) lag(ctx context.Context, l *logEntry, g *groupEntry) (lag backend.Lag, err error) {
	all, err := b.partitionsOf(ctx, l)
	if err != nil {
		return lag, err
	}
	at, err := b.positions(ctx, l, g, len(all))
	if err != nil {
		return lag, err
	}
	ends, err := b.cluster.offset(ctx, latest, all...)
	if err != nil {
		return lag, err
	}
	var starts []int64
	for i, end := range ends {
		if at[i].prefix >= end {
			continue
		}
		if starts == nil {
			if starts, err = b.cluster.offset(ctx, earliest, all...); err != nil {
				return lag, err
			}
		}
		var t tracker
		t.base = at[i].prefix
		for _, o := range at[i].acked {
			t.set(o, settled)
		}
		t.skip(starts[i])
		n := end - t.base - int64(t.done)
		if n <= 0 {
			continue
		}
		_, oldest, err := b.cluster.firstFrom(ctx, all[i], t.base, t.of)
		if err != nil {
			return lag, err
		}
		if lag.Records += n; lag.Oldest.IsZero() || (oldest.Before(lag.Oldest) && !oldest.IsZero()) {
			lag.Oldest = oldest
		}
	}
	return lag, nil
}

// firstFrom finds the first record from an offset on that is not settled, and
// when it was stored; the zero time if there is none.
func (c *cluster) firstFrom(
	ctx context.Context, p partition, from int64, of func(int64) state,
) (offset int64, stored time.Time, err error) {
	err = c.at(ctx, p.topic, func() error {
		b, err := c.leader(ctx, p)
		if err != nil {
			return err
		}
		return b.use(ctx, func(ctx context.Context, l *link) error {
			var answer fetchAnswer
			raw, err := l.raw(ctx, &fetch.Request{
				ReplicaID: -1, MaxBytes: 1, SessionEpoch: -1, Topics: fetchTopics([]fetchWish{{p, from, 1}}),
			})
			if err == nil {
				err = parseFetch(raw, &answer)
			}
			if err != nil {
				return err
			}
			for i := range answer.parts {
				if code := kafka.Error(answer.parts[i].code); code == kafka.OffsetOutOfRange {
					return nil
				} else if err := brokerError(int16(code)); err != nil {
					return err
				}
				offset, stored = firstIn(answer.parts[i].records, from, of)
			}
			return nil
		})
	})
	return offset, stored, err
}

func firstIn(records []byte, from int64, of func(int64) state) (int64, time.Time) {
	r := batchReader{rest: records}
	for r.next() {
		var w wireRecord
		for r.record(&w) {
			if w.offset >= from && !r.control && (of == nil || of(w.offset) != settled) {
				return w.offset, time.UnixMilli(w.timestamp)
			}
		}
	}
	return 0, time.Time{}
}
