package kafkabackend

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// tail reads a topic of our own, of one partition, in order and for ever: that
// order is what all processes agree on.
type tail struct {
	c     *cluster
	at    partition
	apply func(offset int64, w *wireRecord)
	// taken is called when what came together is applied.
	taken func()
	// skipped is called when records were removed before they were read.
	skipped func(to int64)
	log     *slog.Logger

	mu      sync.Mutex
	next    int64 // all before it are applied
	changed chan struct{}
	syncing batcher[*syncWish]
}

type syncWish struct {
	err  error
	done chan struct{}
}

// tailWait is how long a poll lasts when there is nothing.
const tailWait = 5 * time.Second

func newTail(c *cluster, topic string, log *slog.Logger, apply func(int64, *wireRecord)) *tail {
	t := &tail{c: c, at: partition{topic, 0}, apply: apply, taken: func() {}, skipped: func(int64) {}, log: log, changed: make(chan struct{})}
	t.syncing = batcher[*syncWish]{lanes: 1, most: 1 << 20, group: c.group, run: func(wishes []*syncWish) {
		end, err := c.offset(c.life, latest, t.at)
		if err == nil {
			err = t.await(c.life, end[0])
		}
		for _, w := range wishes {
			w.err = err
			close(w.done)
		}
	}}
	return t
}

// sync returns when all that was in the topic when it was called is applied.
func (t *tail) sync(ctx context.Context) error {
	w := &syncWish{done: make(chan struct{})}
	t.syncing.add(w)
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return contextError(ctx)
	}
}

// await returns when all before an offset is applied.
func (t *tail) await(ctx context.Context, offset int64) error {
	for {
		t.mu.Lock()
		next, changed := t.next, t.changed
		t.mu.Unlock()
		if next >= offset {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return contextError(ctx)
		case <-t.c.life.Done():
			return backend.ErrClosed
		}
	}
}

func (t *tail) advance(to int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if to > t.next {
		t.next = to
		close(t.changed)
		t.changed = make(chan struct{})
	}
}

// run reads until the backend's life ends.
func (t *tail) run() {
	var pause time.Duration
	for t.c.life.Err() == nil {
		err := t.read()
		if t.c.life.Err() != nil {
			return
		}
		t.log.Warn("kafka: reading is interrupted", "topic", t.at.topic, "error", err)
		pause = min(max(2*pause, 10*time.Millisecond), time.Second)
		select {
		case <-time.After(pause):
		case <-t.c.life.Done():
		}
	}
}

// read reads on one connection until it breaks.
func (t *tail) read() error {
	life := t.c.life
	ctx, cancel := context.WithTimeout(life, t.c.timeout)
	defer cancel()
	b, err := t.c.leader(ctx, t.at)
	if err != nil {
		return err
	}
	l, err := t.c.dialer.connect(ctx, b.address)
	if err != nil {
		t.c.lost(b)
		return err
	}
	defer l.close()
	for {
		if err := t.poll(l); err != nil {
			if moved(err) || !errors.Is(err, errBatch) {
				t.c.forget(t.at.topic)
			}
			return err
		}
	}
}

func (t *tail) poll(l *link) error {
	ctx, cancel := context.WithTimeout(t.c.life, tailWait+t.c.timeout)
	defer cancel()
	t.mu.Lock()
	next := t.next
	t.mu.Unlock()
	b, err := l.raw(ctx, &fetch.Request{
		ReplicaID: -1, MaxWaitTime: int32(tailWait.Milliseconds()), MinBytes: 1, MaxBytes: fetchBytes, SessionEpoch: -1,
		Topics: fetchTopics([]fetchWish{{t.at, next, fetchBytes}}),
	})
	if err != nil {
		return err
	}
	var answer fetchAnswer
	if err := parseFetch(b, &answer); err != nil {
		return err
	}
	for i := range answer.parts {
		p := &answer.parts[i]
		if p.code == int16(kafka.OffsetOutOfRange) {
			return t.outOfRange(ctx)
		}
		if err := brokerError(p.code); err != nil {
			return err
		}
		if err := t.take(p.records); err != nil {
			return err
		}
	}
	return nil
}

// outOfRange: what was to be read is not kept any more.
func (t *tail) outOfRange(ctx context.Context) error {
	start, err := t.c.offset(ctx, earliest, t.at)
	if err == nil {
		t.log.Warn("kafka: records were removed before they were read", "topic", t.at.topic, "up to", start[0])
		t.skipped(start[0])
		t.advance(start[0])
	}
	return err
}

// take takes in batches. Those who wait go on once for each, and so ask the brokers
// for what they need next together.
func (t *tail) take(records []byte) error {
	t.mu.Lock()
	next := t.next
	t.mu.Unlock()
	r := batchReader{rest: records}
	for r.next() {
		var w wireRecord
		to := next
		for r.record(&w) {
			if w.offset >= next && !r.control {
				t.apply(w.offset, &w)
				to = w.offset + 1
			}
		}
		if r.err == nil {
			to = r.last + 1
		}
		t.advance(to)
		t.taken()
	}
	return r.err
}
