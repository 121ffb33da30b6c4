package natsstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// Open implements claimcheck.Store.
func (s *store) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := claimcheck.ValidName(name); err != nil {
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	info, err := s.info(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	size := int64(info.Size)
	offset = min(offset, size)
	if length < 0 || length > size-offset {
		length = size - offset
	}
	r := &reader{s: s, ctx: ctx, name: name, subject: s.chunks(info.NUID), left: length, next: 1}
	if length == 0 {
		return r, nil
	}
	r.skip = offset
	if k := offset / chunkSize; k > 0 && info.Opts != nil && info.Opts.ChunkSize == chunkSize {
		if err := r.seek(uint64(k), uint64(info.Chunks)); err != nil {
			return nil, fmt.Errorf("open %q: %w", name, err)
		}
	}
	return r, nil
}

// reader asks for one chunk at a time.
type reader struct {
	s       *store
	ctx     context.Context
	name    string
	subject string
	next    uint64 // stream sequence from which on to look for the next chunk
	skip    int64  // bytes that come before the wanted ones
	left    int64  // wanted bytes that have not been handed out
	chunk   []byte // what is left of the chunk at hand
}

func (r *reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	for len(r.chunk) == 0 {
		if err := r.fetch(); err != nil {
			return 0, fmt.Errorf("read %q: %w", r.name, err)
		}
	}
	n := copy(p, r.chunk[:min(int64(len(r.chunk)), r.left)])
	r.chunk = r.chunk[n:]
	r.left -= int64(n)
	return n, nil
}

func (r *reader) fetch() error {
	m, err := r.message(r.next)
	if err != nil {
		return err
	}
	r.next = m.Sequence + 1
	n := min(r.skip, int64(len(m.Data)))
	r.chunk, r.skip = m.Data[n:], r.skip-n
	return nil
}

// message is the first chunk at seq or after it.
func (r *reader) message(seq uint64) (*jetstream.RawStreamMsg, error) {
	if err := r.s.reachable(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.s.timeout)
	defer cancel()
	m, err := r.s.stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(r.subject))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, fmt.Errorf("%w: deleted meanwhile", claimcheck.ErrNotFound)
	case err != nil && r.ctx.Err() != nil:
		return nil, context.Cause(r.ctx)
	}
	return m, fault(err)
}

// seek goes to the kth of n chunks, or to one shortly before it.
func (r *reader) seek(k, n uint64) error {
	first, err := r.message(1)
	if err != nil {
		return err
	}
	// Each step is as far as it can be without going too far: every chunk takes
	// at least one message of the stream.
	at, index := first.Sequence, uint64(0)
	for range 8 {
		if index >= k {
			break
		}
		at += k - index
		pending, err := r.pending(at)
		if err != nil {
			return err
		}
		if pending > n {
			return fmt.Errorf("%w: more chunks than its entry says", claimcheck.ErrCorrupt)
		}
		index = n - pending
	}
	r.next = at
	r.skip -= int64(index) * chunkSize
	return nil
}

// pending is how many chunks there are at seq or after it.
func (r *reader) pending(seq uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.s.timeout)
	defer cancel()
	c, err := r.s.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		FilterSubject: r.subject,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: seq,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1,
		InactiveThreshold: time.Minute, // in case we die before the next lines
	})
	if err != nil {
		return 0, fault(err)
	}
	info := c.CachedInfo()
	return info.NumPending, fault(r.s.stream.DeleteConsumer(ctx, info.Name))
}

func (r *reader) Close() error {
	r.left, r.chunk = 0, nil
	return nil
}
