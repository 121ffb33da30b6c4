package sidecar

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// Names in the claims folder that are ours. Everything else there is the steps'.
const (
	spoolPrefix = "sidestep-spool-"
	lockName    = "sidestep-lock"
)

// spool keeps the data of events that does not fit into memory, as files that
// belong to a chain each. It is the event.PayloadStore of the calls to steps. Its
// methods may be called from any goroutine.
type spool struct {
	inline int
	most   int64 // bytes of one event
	limit  int64 // bytes of all

	root *os.Root // nil: there is no folder
	dir  string
	lock *os.File
	name string // what this process's files begin with
	next atomic.Uint64
	used atomic.Int64

	mu    sync.Mutex
	files map[string][]*file // by owner
}

var _ event.PayloadStore = (*spool)(nil)

// errNoSpool: there is no folder. It is the pod's affair and not the step's.
var errNoSpool = fmt.Errorf("%w: there is no folder for claims", event.ErrPayloadFull)

// openSpool opens the folder, and deletes what a process that died has left in it.
func openSpool(c *Config) (*spool, error) {
	s := &spool{inline: c.Inline, most: c.MaxEventBytes, limit: c.ClaimBytes, files: make(map[string][]*file)}
	if c.Claims == "" {
		return s, nil
	}
	s.dir = filepath.Clean(c.Claims)
	var err error
	if s.root, err = os.OpenRoot(s.dir); err != nil {
		return nil, fmt.Errorf("open claims folder: %w", err)
	}
	if err := s.begin(); err != nil {
		s.root.Close()
		return nil, fmt.Errorf("claims folder %s: %w", s.dir, err)
	}
	return s, nil
}

func (s *spool) begin() (err error) {
	s.lock, err = s.root.OpenFile(lockName, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		s.lock.Close()
		return fmt.Errorf("another sidecar uses it: %w", err)
	}
	if err := s.sweep(); err != nil {
		s.lock.Close()
		return err
	}
	var id [8]byte
	rand.Read(id[:]) //nolint:errcheck // it does not fail
	s.name = spoolPrefix + hex.EncodeToString(id[:]) + "-"
	return nil
}

// sweep deletes files of our naming: there is no other process that they could
// belong to. What else has such a name is left alone.
func (s *spool) sweep() error {
	dir, err := s.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(256)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), spoolPrefix) && e.Type().IsRegular() {
				if err := s.root.Remove(e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// close frees the folder. No chain may be under way.
func (s *spool) close() {
	if s.root != nil {
		s.lock.Close()
		s.root.Close()
	}
}

// Threshold implements event.PayloadStore.
func (s *spool) Threshold() int { return s.inline }

// Limit implements event.PayloadStore.
func (s *spool) Limit() int64 { return s.most }

// copyBuffer is large enough for a read from loopback to be worth its while.
const copyBuffer = 256 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// Store implements event.PayloadStore. in.Owner is the chain: the file is there
// until release. What exceeds the Limit is ErrPayloadFull as well: the event is not
// to blame for what this pod has no room for.
func (s *spool) Store(_ context.Context, in event.Incoming) (event.Payload, error) {
	if s.root == nil {
		return nil, errNoSpool
	}
	if in.Length > s.most {
		return nil, fmt.Errorf("%w: an event of %d bytes, at most %d are taken", event.ErrPayloadFull, in.Length, s.most)
	}
	f, w, err := s.create(in.Owner)
	if err != nil {
		return nil, full(err)
	}
	room := &room{spool: s, f: f, w: w, left: s.most}
	err = room.fill(in)
	if closed := w.Close(); err == nil && closed != nil {
		err = full(closed)
	}
	if err == nil && in.Length >= 0 && f.size != in.Length {
		err = fmt.Errorf("%w: %d bytes instead of %d", event.ErrPayloadLength, f.size, in.Length)
	}
	if err != nil {
		s.remove(in.Owner, f)
		return nil, err
	}
	return f, nil
}

func (s *spool) create(owner string) (*file, *os.File, error) {
	f := &file{spool: s, name: fmt.Sprintf("%s%d", s.name, s.next.Add(1))}
	// The steps may run as somebody else.
	w, err := s.root.OpenFile(f.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, err
	}
	s.keep(owner, f)
	return f, w, nil
}

func (s *spool) keep(owner string, f *file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[owner] = append(s.files[owner], f)
}

// release deletes the files of a chain.
func (s *spool) release(owner string) {
	if s.root == nil {
		return
	}
	s.mu.Lock()
	files := s.files[owner]
	delete(s.files, owner)
	s.mu.Unlock()
	for _, f := range files {
		s.delete(f)
	}
}

// drop deletes one payload of a chain before the chain ends.
func (s *spool) drop(owner string, p event.Payload) {
	if f, ok := p.(*file); ok {
		s.remove(owner, f)
	}
}

func (s *spool) remove(owner string, f *file) {
	s.mu.Lock()
	files := s.files[owner]
	for i := range files {
		if files[i] == f {
			files[i] = files[len(files)-1]
			s.files[owner] = files[:len(files)-1]
			break
		}
	}
	if len(s.files[owner]) == 0 {
		delete(s.files, owner)
	}
	s.mu.Unlock()
	s.delete(f)
}

func (s *spool) delete(f *file) {
	_ = s.root.Remove(f.name) // a step may have done so
	s.used.Add(-f.reserved)
}

// reserve takes n bytes of the folder.
func (s *spool) reserve(f *file, n int64) error {
	if s.used.Add(n) > s.limit {
		s.used.Add(-n)
		return fmt.Errorf("%w: at most %d bytes are kept in the folder for claims", event.ErrPayloadFull, s.limit)
	}
	f.reserved += n
	return nil
}

// room is a file that is being written.
type room struct {
	spool *spool
	f     *file
	w     *os.File
	left  int64 // bytes that an event may still have
}

func (r *room) fill(in event.Incoming) error {
	// What is announced is reserved before anything is written.
	if in.Length > 0 {
		if err := r.spool.reserve(r.f, in.Length); err != nil {
			return err
		}
	}
	if len(in.Head) > 0 {
		if _, err := r.Write(in.Head); err != nil {
			return err
		}
	}
	if in.Rest == nil {
		return nil
	}
	buf, _ := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buf)
	_, err := io.CopyBuffer(struct{ io.Writer }{r}, struct{ io.Reader }{in.Rest}, buf[:])
	return err
}

func (r *room) Write(p []byte) (int, error) {
	n := int64(len(p))
	if n > r.left {
		return 0, fmt.Errorf("%w: an event of more than %d bytes", event.ErrPayloadFull, r.spool.most)
	}
	if over := r.f.size + n - r.f.reserved; over > 0 {
		if err := r.spool.reserve(r.f, over); err != nil {
			return 0, err
		}
	}
	if _, err := r.w.Write(p); err != nil {
		return 0, full(err)
	}
	r.f.size += n
	r.left -= n
	return len(p), nil
}

// full says that it is the folder's fault.
func full(err error) error { return fmt.Errorf("%w: %w", event.ErrPayloadFull, err) }

// file is a payload in the folder.
type file struct {
	spool          *spool
	name           string
	size, reserved int64
}

func (f *file) Size() int64 { return f.size }

// Open implements event.Payload.
func (f *file) Open(context.Context) (io.ReadCloser, error) {
	r, err := f.spool.root.OpenFile(f.name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", event.ErrPayloadGone, err)
	}
	return &whole{file: r, left: f.size}, nil
}

// whole yields the bytes that a file had when it was taken in, no more and no
// fewer: a step may write to it still.
type whole struct {
	file *os.File
	left int64
}

func (w *whole) Read(p []byte) (int, error) {
	if w.left == 0 {
		return 0, io.EOF
	}
	n, err := w.file.Read(p[:min(int64(len(p)), w.left)])
	w.left -= int64(n)
	switch {
	case w.left == 0:
		return n, nil
	case errors.Is(err, io.EOF):
		return n, fmt.Errorf("%w: it has become %d bytes shorter", event.ErrPayloadGone, w.left)
	case err != nil:
		return n, fmt.Errorf("%w: %w", event.ErrPayloadGone, err)
	}
	return n, nil
}

func (w *whole) Close() error { return w.file.Close() }
