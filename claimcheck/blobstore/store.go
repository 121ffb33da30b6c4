package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"syscall"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// copySize is the buffer of a Put.
const copySize = 256 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// store is a claimcheck.Store in a bucket. The functions are what buckets
// differ in; each may be nil.
type store struct {
	bucket  *blob.Bucket
	options blob.WriterOptions
	// upload replaces the bucket's writer. It reads src itself, and undoes an upload
	// whose reader fails. A context that ends in the middle of a request may leave what the
	// server has begun.
	upload func(ctx context.Context, name string, src io.Reader) error
	// list replaces the bucket's own.
	list func(ctx context.Context, prefix string) iter.Seq2[claimcheck.Object, error]
	// part is the memory that a Put takes.
	part int64
	// partials yields uploads that nobody ended, which list does not.
	partials func(ctx context.Context, prefix string) iter.Seq2[claimcheck.Object, error]
	// discard deletes such an upload; it tells whether the name is that of one.
	discard func(ctx context.Context, name string) (bool, error)
	// gone tells whether an error is of a bucket that is missing, rather than of
	// an object in it.
	gone func(error) bool
	// closed ends what the bucket does not.
	closed func()
}

var (
	_ claimcheck.Store     = (*store)(nil)
	_ claimcheck.Buffering = (*store)(nil)
)

func (s *store) PutMemory(length int64) int64 {
	if length < 0 {
		return s.part
	}
	return min(length, s.part)
}

func (s *store) Put(ctx context.Context, name string, r io.Reader) error {
	if err := claimcheck.ValidName(name); err != nil {
		return fmt.Errorf("put %q: %w", name, err)
	}
	src := &source{ctx: ctx, r: r}
	if err := s.put(ctx, name, src); err != nil {
		if src.err != nil {
			return src.err // the reader's fault, or the caller's wish
		}
		return fault(ctx, "put", name, err)
	}
	return nil
}

func (s *store) put(ctx context.Context, name string, src *source) error {
	if s.upload != nil {
		return s.uploadInOrder(ctx, name, src)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := s.bucket.NewWriter(ctx, name, &s.options)
	if err != nil {
		return err
	}
	if err = write(w, src); err != nil {
		cancel() // Close would make visible what there is so far
	}
	return errors.Join(err, w.Close())
}

// write all of src, where it is if it can be.
func write(w io.Writer, src *source) error {
	if at, ok := src.r.(claimcheck.Chunked); ok {
		return src.pass(w, at)
	}
	buf, _ := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	_, err := io.CopyBuffer(onlyWriter{w}, src, buf[:])
	return err
}

// undoTime is how long an upload has to end in order when its context has
// ended.
const undoTime = 10 * time.Second

func (s *store) uploadInOrder(ctx context.Context, name string, src *source) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	// src fails at its next read when ctx has ended; this is for a server that hangs.
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(undoTime):
			cancel()
		case <-inner.Done():
		}
	})
	defer stop()
	err := s.upload(inner, name, src)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && src.err == nil {
		return context.Cause(ctx)
	}
	return err
}

// onlyWriter hides ReadFrom: it would take a buffer of its own.
type onlyWriter struct{ io.Writer }

func (s *store) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := claimcheck.ValidName(name); err != nil {
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	r, err := s.bucket.NewRangeReader(ctx, name, offset, length, nil)
	if err != nil {
		if s.missing(err) {
			return nil, fmt.Errorf("open %q: %w", name, claimcheck.ErrNotFound)
		}
		return nil, fault(ctx, "open", name, err)
	}
	return &reader{r: r, ctx: ctx, name: name}, nil
}

func (s *store) Delete(ctx context.Context, name string) error {
	if s.discard != nil {
		if ours, err := s.discard(ctx, name); ours {
			return fault(ctx, "delete", name, err)
		}
	}
	if err := claimcheck.ValidName(name); err != nil {
		return fmt.Errorf("delete %q: %w", name, err)
	}
	err := s.bucket.Delete(ctx, name)
	if s.missing(err) {
		return nil
	}
	return fault(ctx, "delete", name, err)
}

func (s *store) List(ctx context.Context, prefix string) iter.Seq2[claimcheck.Object, error] {
	list := s.list
	if list == nil {
		list = s.listBucket
	}
	return func(yield func(claimcheck.Object, error) bool) {
		for _, each := range []func(context.Context, string) iter.Seq2[claimcheck.Object, error]{list, s.partials} {
			if each == nil {
				continue
			}
			for o, err := range each(ctx, prefix) {
				if err == nil {
					err = ctx.Err()
				}
				if err != nil {
					yield(claimcheck.Object{}, fault(ctx, "list", prefix, err))
					return
				}
				if !yield(o, nil) {
					return
				}
			}
		}
	}
}

func (s *store) listBucket(ctx context.Context, prefix string) iter.Seq2[claimcheck.Object, error] {
	return func(yield func(claimcheck.Object, error) bool) {
		objects := s.bucket.List(&blob.ListOptions{Prefix: prefix})
		for {
			o, err := objects.Next(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(claimcheck.Object{}, err)
				return
			}
			if !yield(claimcheck.Object{Name: o.Key, Size: o.Size, Modified: o.ModTime}, nil) {
				return
			}
		}
	}
}

func (s *store) Close() error {
	err := s.bucket.Close()
	if s.closed != nil {
		s.closed()
	}
	return err
}

// missing tells whether an object is not there.
func (s *store) missing(err error) bool {
	return gcerrors.Code(err) == gcerrors.NotFound && (s.gone == nil || !s.gone(err))
}

// source keeps what the caller's reader, or the caller's context, failed with.
type source struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.err = context.Cause(s.ctx)
		return 0, s.err
	}
	n, err := s.r.Read(p)
	return n, s.note(err)
}

func (s *source) note(err error) error {
	if err != nil && err != io.EOF { //nolint:errorlint // a wrapped io.EOF is an error
		s.err = err
	}
	return err
}

// pass writes what is at hand in at, which is s.r.
func (s *source) pass(w io.Writer, at claimcheck.Chunked) error {
	for {
		if err := s.ctx.Err(); err != nil {
			s.err = context.Cause(s.ctx)
			return s.err
		}
		p, err := at.Next(copySize)
		if err == io.EOF { //nolint:errorlint // as below
			return nil
		}
		if err != nil {
			return s.note(err)
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
}

// reader says what goes wrong in a store's words.
type reader struct {
	r    *blob.Reader
	ctx  context.Context
	name string
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // as above
		err = fault(r.ctx, "read", r.name, err)
	}
	return n, err
}

func (r *reader) Close() error { return r.r.Close() }

// fault is what a store says for an error of its bucket. Whatever is not known
// to be anything else counts as unavailable: the caller waits and tries again.
func fault(ctx context.Context, op, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%s %q: %w: %w", op, name, claimcheck.ErrFull, err)
	default:
		return fmt.Errorf("%s %q: %w: %w", op, name, claimcheck.ErrUnavailable, err)
	}
}
