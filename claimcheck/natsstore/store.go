package natsstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// Config says where the objects are and, if there is no such bucket yet, how to
// make it. Bucket is required.
type Config struct {
	Bucket string
	// Replicas of each message; 1 if zero.
	Replicas int
	// MaxBytes bounds the bucket; what the account allows if zero.
	MaxBytes int64
	// Timeout of one request to the server; 5 s if zero. An upload or a download
	// takes as long as it must.
	Timeout time.Duration
	// Existing has a bucket that is missing be an error instead of being made.
	Existing bool
}

// chunkSize is well below the 1 MiB that a server takes by default.
const chunkSize = 256 << 10

type store struct {
	conn    *nats.Conn
	js      jetstream.JetStream
	objects jetstream.ObjectStore
	stream  jetstream.Stream
	bucket  string
	timeout time.Duration
}

var (
	_ claimcheck.Store     = (*store)(nil)
	_ claimcheck.Buffering = (*store)(nil)
)

// Open opens the bucket, and makes it if it is missing. The connection stays
// the caller's, who closes it after the store.
func Open(ctx context.Context, conn *nats.Conn, c Config) (claimcheck.Store, error) {
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	s := &store{conn: conn, bucket: c.Bucket, timeout: c.Timeout}
	if err := s.open(ctx, c); err != nil {
		return nil, fmt.Errorf("NATS payload store %q: %w", c.Bucket, err)
	}
	return s, nil
}

func (s *store) open(ctx context.Context, c Config) (err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if s.js, err = jetstream.New(s.conn, jetstream.WithDefaultTimeout(s.timeout)); err != nil {
		return err
	}
	s.objects, err = s.js.ObjectStore(ctx, c.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) && !c.Existing {
		s.objects, err = s.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{
			Bucket: c.Bucket, Replicas: c.Replicas, MaxBytes: c.MaxBytes,
			Description: "payloads of Sidestep's events",
		})
		if errors.Is(err, jetstream.ErrBucketExists) { // another process was faster
			s.objects, err = s.js.ObjectStore(ctx, c.Bucket)
		}
	}
	if err != nil {
		return fault(err)
	}
	s.stream, err = s.js.Stream(ctx, "OBJ_"+c.Bucket)
	return fault(err)
}

func (s *store) Put(ctx context.Context, name string, r io.Reader) error {
	if err := claimcheck.ValidName(name); err != nil {
		return fmt.Errorf("put %q: %w", name, err)
	}
	if err := s.reachable(); err != nil {
		return fmt.Errorf("put %q: %w", name, err)
	}
	if err := s.upload(ctx, name, r); err != nil {
		return fmt.Errorf("put %q: %w", name, err)
	}
	return nil
}

func (s *store) Delete(ctx context.Context, name string) error {
	if nuid, ok := strings.CutPrefix(name, partialPrefix); ok {
		return s.purge(ctx, name, s.chunks(nuid))
	}
	if err := claimcheck.ValidName(name); err != nil {
		return fmt.Errorf("delete %q: %w", name, err)
	}
	info, err := s.info(ctx, name)
	if errors.Is(err, claimcheck.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete %q: %w", name, err)
	}
	// The entry first: what is left if we die here is known by having none. The
	// library's own Delete leaves a message behind for ever.
	if err := s.purge(ctx, name, s.entry(name)); err != nil {
		return err
	}
	return s.purge(ctx, name, s.chunks(info.NUID))
}

func (s *store) purge(ctx context.Context, name, subject string) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	err := s.reachable()
	if err == nil {
		err = fault(s.stream.Purge(ctx, jetstream.WithPurgeSubject(subject)))
	}
	if err != nil {
		return fmt.Errorf("delete %q: %w", name, err)
	}
	return nil
}

func (s *store) info(ctx context.Context, name string) (*jetstream.ObjectInfo, error) {
	if err := s.reachable(); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	info, err := s.objects.GetInfo(limited, name)
	switch {
	case errors.Is(err, jetstream.ErrObjectNotFound):
		return nil, claimcheck.ErrNotFound
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return info, fault(err)
}

func (s *store) Close() error {
	s.js.CleanupPublisher()
	return nil
}

func (s *store) chunks(nuid string) string { return "$O." + s.bucket + ".C." + nuid }

// reachable spares the wait for an answer when there is no connection.
func (s *store) reachable() error {
	if !s.conn.IsConnected() {
		return fmt.Errorf("%w: %w", claimcheck.ErrUnavailable, nats.ErrDisconnected)
	}
	return nil
}

// The server's codes for having no room.
const (
	codeInsufficientResources = 10023
	codeMemoryExceeded        = 10028
	codeStorageExceeded       = 10047
	codeStoreFailed           = 10077
)

// fault is what a store says for an error of the client. What is not known to be
// anything else counts as unavailable.
func fault(err error) error {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &api) && isFull(api):
		return fmt.Errorf("%w: %w", claimcheck.ErrFull, err)
	default:
		return fmt.Errorf("%w: %w", claimcheck.ErrUnavailable, err)
	}
}

func isFull(e *jetstream.APIError) bool {
	switch e.ErrorCode {
	case codeInsufficientResources, codeMemoryExceeded, codeStorageExceeded, codeStoreFailed:
		return true
	}
	return false
}

var errStop = errors.New("enough")

// List implements claimcheck.Store.
func (s *store) List(ctx context.Context, prefix string) iter.Seq2[claimcheck.Object, error] {
	return func(yield func(claimcheck.Object, error) bool) {
		err := s.list(ctx, prefix, yield)
		if err == nil || errors.Is(err, errStop) {
			return
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		yield(claimcheck.Object{}, fmt.Errorf("list %q: %w", prefix, err))
	}
}
