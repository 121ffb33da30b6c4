package kafkabackend

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

const (
	// produceLanes is how many produce requests may be under way to a broker.
	produceLanes = 2
	// batchBytes bounds a batch that holds more than one record, requestBytes
	// all that goes in one request.
	batchBytes   = 256 << 10
	requestBytes = 4 << 20
)

// posting is a record, or a batch made already, on its way to a partition.
// Whoever takes it out of the producer answers it, once.
type posting struct {
	partition
	record *backend.Record // of an event
	batch  []byte          // or this
	size   int
	alone  bool // in a batch of its own

	offset int64
	time   int64 // when the broker appended it, if the topic's times are the broker's
	err    error
	done   chan struct{}

	// mu keeps the caller from returning while the record is being read.
	mu   sync.Mutex
	gone bool // the caller does not wait any more
}

// producer sends what is to be stored by one broker: all that waits goes out
// together as soon as one of the lanes is free.
type producer struct {
	b       *broker
	timeout time.Duration

	mu      sync.Mutex
	waiting []*posting
	lanes   int // at work
	closed  bool
	spare   [][]byte
	links   []*link
}

func (p *producer) add(w *posting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		w.err = backend.ErrClosed
		close(w.done)
		return
	}
	p.waiting = append(p.waiting, w)
	if p.lanes < produceLanes && (p.lanes == 0 || len(p.waiting) > 1) {
		p.lanes++
		p.b.c.group.Go(p.work)
	}
}

// load is what goes out in one request.
type load struct {
	buf   []byte
	parts []loadPart
}

type loadPart struct {
	partition
	postings []*posting
	from, to int // of the batch and its size, in buf
}

func (p *producer) work() {
	for {
		l := p.take()
		if l == nil {
			return
		}
		p.encode(l)
		p.send(l)
		p.recycle(l)
	}
}

// take gathers what waits: one batch for each partition, as the broker takes no
// more, and what does not fit stays for the next request, in order.
func (p *producer) take() *load {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.lanes--
		return nil
	}
	l := &load{}
	at := make(map[partition]int, 4)
	sizes := make(map[partition]int, 4)
	total := 0
	rest := p.waiting[:0]
	for _, w := range p.waiting {
		size, begun := sizes[w.partition]
		full := begun && (w.alone || w.batch != nil || size+w.size > batchBytes || size < 0)
		if full || (total > 0 && total+w.size > requestBytes) {
			sizes[w.partition] = -1 // nor what comes after it
			if !begun {
				at[w.partition] = -1
			}
			rest = append(rest, w)
			continue
		}
		i, ok := at[w.partition]
		if !ok {
			i = len(l.parts)
			at[w.partition] = i
			l.parts = append(l.parts, loadPart{partition: w.partition})
		}
		l.parts[i].postings = append(l.parts[i].postings, w)
		if total += w.size; w.alone || w.batch != nil {
			sizes[w.partition] = -1
		} else {
			sizes[w.partition] = size + w.size
		}
	}
	clear(p.waiting[len(rest):])
	p.waiting = rest
	if n := len(p.spare); n > 0 {
		l.buf, p.spare = p.spare[n-1][:0], p.spare[:n-1]
	}
	return l
}

// encode reads the records, after which their owners may have them back.
func (p *producer) encode(l *load) {
	now := time.Now().UnixMilli()
	for i := range l.parts {
		part := &l.parts[i]
		part.from = len(l.buf)
		l.buf = append(l.buf, 0, 0, 0, 0) // the batch's size
		kept := part.postings[:0]
		for _, w := range part.postings {
			if !w.take() {
				continue // its caller went away
			}
			if w.batch != nil {
				l.buf = append(l.buf, w.batch...)
			} else {
				if len(kept) == 0 {
					l.buf = beginBatch(l.buf)
				}
				l.buf = appendRecord(l.buf, len(kept), w.record)
			}
			w.release()
			kept = append(kept, w)
		}
		if part.postings = kept; len(kept) == 0 {
			l.buf = l.buf[:part.from]
		} else {
			if kept[0].batch == nil {
				endBatch(l.buf, part.from+4, len(kept), now)
			}
			binary.BigEndian.PutUint32(l.buf[part.from:], uint32(len(l.buf)-part.from-4))
		}
		part.to = len(l.buf)
	}
}

// take reserves the record for reading, unless its caller went away.
func (w *posting) take() bool {
	w.mu.Lock()
	if w.gone {
		w.mu.Unlock()
		return false
	}
	return true // and release unlocks
}

func (w *posting) release() { w.mu.Unlock() }

// leave is the caller going away: after it nobody reads the record.
func (w *posting) leave() {
	w.mu.Lock()
	w.gone = true
	w.mu.Unlock()
}

func (p *producer) send(l *load) {
	r := &rawproduce.Request{Acks: -1, Timeout: int32(p.timeout.Milliseconds())}
	topics := make(map[string]int, len(l.parts))
	for i := range l.parts {
		part := &l.parts[i]
		if part.from == part.to {
			continue
		}
		t, ok := topics[part.topic]
		if !ok {
			t = len(r.Topics)
			topics[part.topic] = t
			r.Topics = append(r.Topics, rawproduce.RequestTopic{Topic: part.topic})
		}
		r.Topics[t].Partitions = append(r.Topics[t].Partitions, rawproduce.RequestPartition{
			Partition: part.index,
			RecordSet: protocol.RawRecordSet{Reader: bytes.NewReader(l.buf[part.from:part.to])},
		})
	}
	if len(r.Topics) == 0 {
		return
	}
	says, err := p.exchange(r)
	for i := range l.parts {
		part := &l.parts[i]
		s, ok := says[part.partition]
		switch e := brokerError(s.ErrorCode); {
		case err != nil:
			part.answer(s, err)
		case !ok:
			part.answer(s, fmt.Errorf("no confirmation: %w", backend.ErrUnavailable))
		case s.ErrorCode == int16(kafka.MessageSizeTooLarge) && len(part.postings) > 1:
			p.again(part) // perhaps not all of them are too large
		default:
			if e != nil && s.ErrorMessage != "" {
				e = fmt.Errorf("%s: %w", s.ErrorMessage, e)
			}
			part.answer(s, e)
		}
	}
}

func (part *loadPart) answer(s produce.ResponsePartition, err error) {
	for i, w := range part.postings {
		w.offset, w.time, w.err = s.BaseOffset+int64(i), s.LogAppendTime, err
		close(w.done)
	}
}

func (p *producer) again(part *loadPart) {
	for _, w := range part.postings {
		w.alone = true
		w.mu.Lock()
		gone := w.gone
		w.mu.Unlock()
		if gone {
			close(w.done)
			continue
		}
		p.add(w)
	}
}

func (p *producer) exchange(r *rawproduce.Request) (map[partition]produce.ResponsePartition, error) {
	ctx, cancel := context.WithTimeoutCause(p.b.c.life, p.timeout, fmt.Errorf("no confirmation within %v", p.timeout))
	defer cancel()
	link, err := p.link(ctx)
	if err != nil {
		p.b.c.lost(p.b)
		return nil, failure("store", err)
	}
	answer, err := link.roundTrip(ctx, r)
	if err != nil {
		p.b.c.lost(p.b)
		return nil, failure("store", err)
	}
	p.mu.Lock()
	p.links = append(p.links, link)
	p.mu.Unlock()
	a, _ := answer.(*produce.Response)
	says := make(map[partition]produce.ResponsePartition, 4)
	for i := range a.Topics {
		for _, s := range a.Topics[i].Partitions {
			says[partition{a.Topics[i].Topic, s.Partition}] = s
		}
	}
	return says, nil
}

// link takes a connection of ours, or makes one.
func (p *producer) link(ctx context.Context) (*link, error) {
	for {
		p.mu.Lock()
		n := len(p.links)
		if n == 0 {
			p.mu.Unlock()
			return p.b.c.dialer.connect(ctx, p.b.address)
		}
		l := p.links[n-1]
		p.links = p.links[:n-1]
		p.mu.Unlock()
		if time.Since(l.used) < linkAge {
			return l, nil
		}
		l.close()
	}
}

func (p *producer) recycle(l *load) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cap(l.buf) <= 2*requestBytes && len(p.spare) < produceLanes {
		p.spare = append(p.spare, l.buf)
	}
}

// close answers all that wait. Lanes at work end with the backend's life.
func (p *producer) close() {
	p.mu.Lock()
	waiting, links := p.waiting, p.links
	p.waiting, p.links, p.closed = nil, nil, true
	p.mu.Unlock()
	for _, w := range waiting {
		w.err = backend.ErrClosed
		close(w.done)
	}
	for _, l := range links {
		l.close()
	}
}

// store has a batch made already stored, and waits.
func (c *cluster) store(ctx context.Context, to partition, batch []byte) (offset, appended int64, err error) {
	var w *posting
	err = c.at(ctx, to.topic, func() error {
		b, err := c.leader(ctx, to)
		if err != nil {
			return err
		}
		w = &posting{partition: to, batch: batch, size: len(batch), done: make(chan struct{})}
		b.services().producer.add(w)
		select {
		case <-w.done:
			return w.err
		case <-ctx.Done():
			w.leave()
			return contextError(ctx)
		case <-c.life.Done():
			w.leave()
			return backend.ErrClosed
		}
	})
	if err != nil {
		return 0, 0, err
	}
	return w.offset, w.time, nil
}
