package claimcheck

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Open streams a payload. What it yields is not known to be right before the end:
// the last bytes are withheld until the SHA-256 of all matches the claim, or the seal of
// all that of this process, so that a corrupted payload never comes out complete. It ends in
// ErrCorrupt instead, also when the object is shorter than it was. ErrNotFound comes from Open.
//
// What is still in memory comes from there, and needs no check.
//
// The reader must be closed. It takes constant memory.
func (r *Checkroom) Open(ctx context.Context, c Claim) (io.ReadCloser, error) {
	s, err := r.store(c.Store)
	if err == nil {
		err = c.validate()
	}
	if err == nil {
		if p := r.kept.hold(&c); p != nil {
			return &keptReader{notify: r.notify, of: p, rest: p.data}, nil
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var body io.ReadCloser
	if err == nil {
		body, err = s.Open(ctx, c.Object, 0, c.Size)
	}
	if err != nil {
		cancel()
		r.notify.Failed(OpFetch, err)
		return nil, fmt.Errorf("open payload of %s: %w", c.Owner, err)
	}
	held := r.seals.check(&c)
	return &stream{
		room: r, claim: c, cancel: cancel, body: body, held: held, left: c.Size,
		from: newAhead(body, c.Size, held.write),
	}, nil
}

// Hold is a payload as it is in memory, if it is there still: nil if it is not. It must not be
// changed, nor used once it is released.
func (r *Checkroom) Hold(c Claim) (data []byte, release func()) {
	p := r.kept.hold(&c)
	if p == nil {
		return nil, nil
	}
	r.notify.Fetched(c.Size, true)
	return p.data, p.release
}

// withheld is how much of a stream is kept back until all of it is known to be
// right.
const withheld = 32 << 10

// stream is a payload as a whole.
//
//	store --> | handed out as it comes, hashed | withheld: read whole, hashed, then handed out |
//	          '------------ left > withheld ---'----------------- left == 0 -------------------'
type stream struct {
	room   *Checkroom
	claim  Claim
	cancel context.CancelFunc // ends a read of body
	body   io.ReadCloser
	from   *ahead // reads body
	held   check
	left   int64 // not read yet
	rest   []byte
	done   bool // rest is what may be handed out
	err    error
}

func (s *stream) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if s.left > withheld {
		return s.early(p)
	}
	if err := s.last(); err != nil {
		return 0, err
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// last has the rest to hand out, once all of it is known to be right.
func (s *stream) last() error {
	if !s.done {
		if s.err = s.finish(); s.err != nil {
			return s.err
		}
	}
	if len(s.rest) == 0 {
		s.err = io.EOF
	}
	return s.err
}

// Next implements Chunked.
func (s *stream) Next(most int) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	if s.left > withheld {
		p, err := s.from.next(int(min(int64(most), s.left-withheld)))
		s.left -= int64(len(p))
		s.room.notify.Fetched(int64(len(p)), false)
		if err != nil && len(p) == 0 {
			s.err = s.fail(err)
			return nil, s.err
		}
		return p, nil
	}
	if err := s.last(); err != nil {
		return nil, err
	}
	p := s.rest[:min(most, len(s.rest))]
	s.rest = s.rest[len(p):]
	return p, nil
}

func (s *stream) early(p []byte) (int, error) {
	if int64(len(p)) > s.left-withheld {
		p = p[:s.left-withheld]
	}
	n, err := s.from.Read(p)
	s.left -= int64(n)
	s.room.notify.Fetched(int64(n), false)
	if err != nil {
		s.err = s.fail(err)
		return n, s.err
	}
	return n, nil
}

func (s *stream) finish() error {
	last := make([]byte, s.left)
	if _, err := io.ReadFull(s.from, last); err != nil {
		return s.fail(err)
	}
	// To the end: what was hashed is all that there is only then.
	if n, err := s.from.Read(make([]byte, 1)); n > 0 {
		return s.fail(fmt.Errorf("%w: longer than it was", ErrCorrupt))
	} else if err != nil && !errors.Is(err, io.EOF) {
		return s.fail(err)
	}
	if !s.held.right() {
		return s.fail(fmt.Errorf("%w: it is not what was hashed", ErrCorrupt))
	}
	s.left, s.rest, s.done = 0, last, true
	s.room.notify.Fetched(int64(len(last)), true)
	return nil
}

func (s *stream) fail(err error) error {
	err = short(err)
	s.room.notify.Failed(OpFetch, err)
	return fmt.Errorf("read payload of %s: %w", s.claim.Owner, err)
}

func (s *stream) Close() error {
	if s.err == nil || errors.Is(s.err, io.EOF) {
		s.err = errClosed
	}
	s.cancel()
	s.from.stop()
	s.held.free()
	return s.body.Close()
}

var errClosed = errors.New("payload reader is closed")
