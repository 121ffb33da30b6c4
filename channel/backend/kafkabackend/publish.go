package kafkabackend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// Publish implements backend.Publisher.
func (b *Backend) Publish(ctx context.Context, log string, r *backend.Record) error {
	if size := r.Size(); size > b.limits.MaxRecordBytes {
		return fmt.Errorf("publish %d bytes, %d at most: %w", size, b.limits.MaxRecordBytes, backend.ErrTooLarge)
	}
	if err := b.check(ctx); err != nil {
		return failure("publish", err)
	}
	if e, ok := b.catalog.lookup(log); ok && e.Made && !e.Sealed {
		err := b.publish(ctx, e, r)
		if err == nil || !(errors.Is(err, backend.ErrNotFound) || errors.Is(err, backend.ErrTooLarge)) {
			return failure("publish", err)
		}
		// Deleted or sealed, perhaps by another process.
	}
	return failure("publish", b.publishAnew(ctx, log, r))
}

// publishAnew is for when the log takes no records, as far as is known here: the
// catalog tells why.
func (b *Backend) publishAnew(ctx context.Context, log string, r *backend.Record) error {
	e, err := b.catalog.find(ctx, log)
	if err != nil {
		return err
	}
	if !e.Made { // whoever began to make it died, or is still at it
		if e, err = b.makeLog(ctx, e); err != nil {
			return err
		}
	}
	if e.Sealed {
		return fmt.Errorf("log %q: %w", log, backend.ErrSealed)
	}
	err = b.publish(ctx, e, r)
	if !errors.Is(err, backend.ErrNotFound) {
		return err
	}
	// Its topic is new to this broker, or somebody deleted it.
	if b.vanished(ctx, e) {
		return fmt.Errorf("log %q: %w", log, errTopicGone)
	}
	return b.publish(ctx, e, r)
}

// publish sends a record to its partition. It is not told whether the record was
// stored when a connection breaks: that is ErrUnavailable.
func (b *Backend) publish(ctx context.Context, l *logEntry, r *backend.Record) error {
	var w *posting
	return b.cluster.at(ctx, l.Topic, func() error {
		leaders, err := b.cluster.partitions(ctx, l.Topic)
		if err != nil {
			return err
		}
		p := partition{l.Topic, b.choose(l, r.Key, len(leaders))}
		at, err := b.cluster.leader(ctx, p)
		if err != nil {
			return err
		}
		w = &posting{partition: p, record: r, size: r.Size() + sizeOverhead, done: make(chan struct{})}
		at.services().producer.add(w)
		select {
		case <-w.done:
			return w.err
		case <-ctx.Done():
			w.leave()
			return contextError(ctx)
		case <-b.life.Done():
			w.leave()
			return backend.ErrClosed
		}
	})
}

// choose finds a record's partition: by its key, as Kafka's own clients do, or
// any. Those of an Ordered log are the ones that it was made with.
func (b *Backend) choose(l *logEntry, key string, partitions int) int32 {
	n := partitions
	if l.Ordered {
		n = min(n, l.Partitions)
	}
	if n <= 1 {
		return 0
	}
	if key != "" {
		return int32((murmur2(key) & 0x7fffffff) % uint32(n))
	}
	// The same one for a while: what is sent together goes in one batch.
	return int32(uint32(time.Now().UnixMilli()/stick+int64(len(l.Topic))) % uint32(n))
}

// stick is for how many milliseconds records without a key go to one partition.
const stick = 20

// murmur2 is the hash by which Kafka's clients choose a partition.
func murmur2(s string) uint32 {
	const m = 0x5bd1e995
	h := 0x9747b28c ^ uint32(len(s))
	for ; len(s) >= 4; s = s[4:] {
		k := uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
		k *= m
		k ^= k >> 24
		k *= m
		h *= m
		h ^= k
	}
	switch len(s) {
	case 3:
		h ^= uint32(s[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(s[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(s[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
