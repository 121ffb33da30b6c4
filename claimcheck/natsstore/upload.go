package natsstore

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// window is how many chunks of an upload may be on their way.
const window = 8

// PutMemory implements claimcheck.Buffering.
func (s *store) PutMemory(length int64) int64 {
	if length < 0 {
		return window * chunkSize
	}
	chunks := length/chunkSize + 1
	return min(chunks, window) * chunkSize
}

// upload writes what the client library's Put would, which any NATS tool can
// read. It is not that Put: that one leaves a goroutine behind now and then
// (nats.go 1.55, jetstream.resetPendingAcksOnReconnect), and the chunks of an
// upload whose context ends.
func (s *store) upload(ctx context.Context, name string, r io.Reader) error {
	former, err := s.info(ctx, name)
	if err != nil && !errors.Is(err, claimcheck.ErrNotFound) {
		return err
	}
	u := &uploader{s: s, ctx: ctx, id: nuid.Next(), digest: sha256.New()}
	if err := u.run(name, r); err != nil {
		u.undo(name)
		return err
	}
	if former != nil {
		return s.purge(ctx, name, s.chunks(former.NUID))
	}
	return nil
}

// uploader sends one object's chunks.
type uploader struct {
	s      *store
	ctx    context.Context
	id     string
	slots  [window]slot
	digest hash.Hash
	size   uint64
	chunks uint32
}

// slot is a chunk on its way: the client may send it again, so it has a buffer
// to itself until it is acknowledged.
type slot struct {
	buffer []byte
	ack    jetstream.PubAckFuture
}

func (u *uploader) run(name string, r io.Reader) error {
	for more := true; more; {
		slot := &u.slots[u.chunks%window]
		err := u.wait(slot)
		if err != nil {
			return err
		}
		if slot.buffer == nil {
			slot.buffer = make([]byte, chunkSize)
		}
		var n int
		if n, more, err = u.fill(slot.buffer, r); err != nil {
			return err
		}
		if err := u.send(slot, n); err != nil {
			return err
		}
	}
	for i := range u.slots {
		if err := u.wait(&u.slots[i]); err != nil {
			return err
		}
	}
	return u.complete(name)
}

// undo deletes the chunks. What cannot be deleted now is listed as partial, and
// swept.
func (u *uploader) undo(name string) {
	u.ctx = context.WithoutCancel(u.ctx)
	for i := range u.slots {
		// One that is still on its way would come after the purge.
		if err := u.wait(&u.slots[i]); err != nil && u.s.reachable() != nil {
			return
		}
	}
	_ = u.s.purge(u.ctx, name, u.s.chunks(u.id))
}

// fill reads a whole chunk unless r ends: chunks of one size let Open find one.
func (u *uploader) fill(p []byte, r io.Reader) (n int, more bool, err error) {
	for n < len(p) {
		if u.ctx.Err() != nil {
			return n, false, context.Cause(u.ctx)
		}
		k, err := r.Read(p[n:])
		n += k
		if err == io.EOF { //nolint:errorlint // a wrapped io.EOF is an error
			return n, false, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, true, nil
}

func (u *uploader) send(slot *slot, n int) (err error) {
	if n == 0 {
		return nil
	}
	if err := u.s.reachable(); err != nil {
		return err
	}
	data := slot.buffer[:n]
	u.digest.Write(data)
	u.size += uint64(n)
	u.chunks++
	slot.ack, err = u.s.js.PublishAsync(u.s.chunks(u.id), data)
	return fault(err)
}

func (u *uploader) wait(slot *slot) error {
	if slot.ack == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(u.ctx, u.s.timeout)
	defer cancel()
	defer func() { slot.ack = nil }()
	select {
	case <-slot.ack.Ok():
		return nil
	case err := <-slot.ack.Err():
		return fault(err)
	case <-ctx.Done():
		if u.ctx.Err() != nil {
			return context.Cause(u.ctx)
		}
		return fmt.Errorf("%w: no answer in %v", claimcheck.ErrUnavailable, u.s.timeout)
	}
}

// complete writes the entry that makes the chunks an object.
func (u *uploader) complete(name string) error {
	info, err := json.Marshal(&jetstream.ObjectInfo{
		ObjectMeta: jetstream.ObjectMeta{Name: name, Opts: &jetstream.ObjectMetaOptions{ChunkSize: chunkSize}},
		Bucket:     u.s.bucket, NUID: u.id, Size: u.size, Chunks: u.chunks,
		Digest: jetstream.GetObjectDigestValue(u.digest),
	})
	if err != nil {
		return err
	}
	m := nats.NewMsg(u.s.entry(name))
	m.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	m.Data = info
	ctx, cancel := context.WithTimeout(u.ctx, u.s.timeout)
	defer cancel()
	_, err = u.s.js.PublishMsg(ctx, m)
	if err != nil && u.ctx.Err() != nil {
		return context.Cause(u.ctx)
	}
	return fault(err)
}
