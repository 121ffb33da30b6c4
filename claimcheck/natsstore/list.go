package natsstore

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// partialPrefix begins the names of chunks without an entry. ValidName refuses
// it, so that no object has such a name.
const partialPrefix = "#"

// entry is the subject of the message that makes chunks an object.
func (s *store) entry(name string) string {
	return "$O." + s.bucket + ".M." + base64.URLEncoding.EncodeToString([]byte(name))
}

func (s *store) list(ctx context.Context, prefix string, yield func(claimcheck.Object, error) bool) error {
	if err := s.reachable(); err != nil {
		return err
	}
	// The chunks first: those of an object that is complete by the time its entry
	// is looked for are not partial.
	orphans, err := s.subjects(ctx, prefix)
	if err != nil {
		return err
	}
	if err := s.entries(ctx, func(info *jetstream.ObjectInfo) error {
		delete(orphans, s.chunks(info.NUID))
		o := claimcheck.Object{Name: info.Name, Size: int64(info.Size), Modified: info.ModTime}
		if strings.HasPrefix(info.Name, prefix) && !yield(o, nil) {
			return errStop
		}
		return nil
	}); err != nil {
		return err
	}
	return s.partials(ctx, orphans, yield)
}

// subjects are those of all chunks. They have no prefix.
func (s *store) subjects(ctx context.Context, prefix string) (map[string]uint64, error) {
	if prefix != "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	info, err := s.stream.Info(ctx, jetstream.WithSubjectFilter(s.chunks("*")))
	if err != nil {
		return nil, fault(err)
	}
	return info.State.Subjects, nil
}

func (s *store) entries(ctx context.Context, each func(*jetstream.ObjectInfo) error) error {
	w, err := s.objects.Watch(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return fault(err)
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case info := <-w.Updates():
			if info == nil {
				return nil
			}
			if err := each(info); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *store) partials(ctx context.Context, orphans map[string]uint64, yield func(claimcheck.Object, error) bool) error {
	for subject := range orphans {
		last, err := s.lastChunk(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return fault(err)
		}
		o := claimcheck.Object{
			Name:     partialPrefix + strings.TrimPrefix(subject, s.chunks("")),
			Modified: last.Time, Partial: true,
		}
		if !yield(o, nil) {
			return errStop
		}
	}
	return nil
}

func (s *store) lastChunk(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.stream.GetLastMsgForSubject(ctx, subject)
}
