package membackend

import (
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// dedupWindow is the publish retry horizon (see backend.Record).
const dedupWindow = 10 * time.Second

// Options of a Store. The zero value is a sound default.
type Options struct {
	// MaxRecordBytes is Limits.MaxRecordBytes. 0: 1 MiB.
	MaxRecordBytes int
	// MaxBytes bounds the records kept in all logs together; beyond it
	// Publish and Room say ErrFull. 0: no bound.
	MaxBytes int64
}

// Store is a broker. Connect makes connections to it.
type Store struct {
	opts Options

	mu      sync.Mutex
	logs    map[string]*log
	bytes   int64
	changed chan struct{}            // closed and replaced whenever a waiter should look again
	resting map[*subscription]func() // to be called then
}

type log struct {
	name        string
	incarnation backend.Incarnation
	ordered     bool
	sealed      bool
	next        uint64
	groups      map[string]*group
	seen        map[string]struct{} // Dedup of the last dedupWindow
	seenAt      []seenAt            // the same, oldest first
	records     map[uint64]*record
}

type seenAt struct {
	dedup string
	at    time.Time
}

type record struct {
	backend.Record
	offset uint64
	stored time.Time
	refs   int // groups that have not acked it
}

// group is a cursor: what it has not acked, in log order, and who holds what.
type group struct {
	pending []*pending
	owner   *subscription // of an ordered log
}

type pending struct {
	rec         *record
	holder      *subscription // nil: to be delivered
	redelivered bool
}

// NewStore makes an empty broker.
func NewStore(o Options) *Store {
	if o.MaxRecordBytes == 0 {
		o.MaxRecordBytes = 1 << 20
	}
	return &Store{opts: o, logs: make(map[string]*log), changed: make(chan struct{}), resting: make(map[*subscription]func())}
}

// wake has every waiting Receive look again, and all that rest. Called with s.mu
// held.
func (s *Store) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
	for _, wake := range s.resting {
		wake()
	}
	clear(s.resting)
}

func (s *Store) ensureLog(l backend.Log) backend.Incarnation {
	if old := s.logs[l.Name]; old != nil {
		return old.incarnation
	}
	n := &log{
		name:        l.Name,
		incarnation: backend.Incarnation(rand.Text()),
		ordered:     l.Ordered,
		groups:      make(map[string]*group),
		seen:        make(map[string]struct{}),
		records:     make(map[uint64]*record),
	}
	s.logs[l.Name] = n
	return n.incarnation
}

func (s *Store) deleteGroup(l *log, name string) {
	g := l.groups[name]
	for _, p := range g.pending {
		s.unref(l, p.rec)
	}
	g.pending = nil // an ack that comes late finds nothing
	delete(l.groups, name)
	s.wake()
}

func (s *Store) deleteLog(name string) {
	l := s.logs[name]
	if l == nil {
		return
	}
	for _, r := range l.records {
		s.bytes -= int64(r.Size())
	}
	clear(l.records) // an ack that comes late must not count them again
	delete(s.logs, name)
	s.wake()
}

func (s *Store) log(name string) (*log, error) {
	if l := s.logs[name]; l != nil {
		return l, nil
	}
	return nil, fmt.Errorf("log %s: %w", name, backend.ErrNotFound)
}

func (s *Store) group(name, groupName string) (*log, *group, error) {
	l, err := s.log(name)
	if err != nil {
		return nil, nil, err
	}
	if g := l.groups[groupName]; g != nil {
		return l, g, nil
	}
	return nil, nil, fmt.Errorf("group %s of log %s: %w", groupName, name, backend.ErrNotFound)
}

func (s *Store) full() error {
	if s.opts.MaxBytes > 0 && s.bytes >= s.opts.MaxBytes {
		return fmt.Errorf("%d of %d bytes used: %w", s.bytes, s.opts.MaxBytes, backend.ErrFull)
	}
	return nil
}

func (s *Store) publish(name string, r *backend.Record) error {
	if n := r.Size(); n > s.opts.MaxRecordBytes {
		return fmt.Errorf("record of %d bytes, at most %d: %w", n, s.opts.MaxRecordBytes, backend.ErrTooLarge)
	}
	l, err := s.log(name)
	if err != nil {
		return err
	}
	if l.sealed {
		return fmt.Errorf("log %s: %w", name, backend.ErrSealed)
	}
	if l.duplicate(r.Dedup) {
		return nil
	}
	if len(l.groups) > 0 {
		if err := s.full(); err != nil {
			return err
		}
	}
	if r.Dedup != "" {
		l.seen[r.Dedup] = struct{}{}
		l.seenAt = append(l.seenAt, seenAt{r.Dedup, time.Now()})
	}
	l.next++
	if len(l.groups) == 0 {
		return nil // nobody wants it: retention by interest
	}
	rec := &record{Record: copyOf(r), offset: l.next, stored: time.Now(), refs: len(l.groups)}
	l.records[rec.offset] = rec
	s.bytes += int64(rec.Size())
	for _, g := range l.groups {
		g.pending = append(g.pending, &pending{rec: rec})
	}
	s.wake()
	return nil
}

func (l *log) duplicate(dedup string) bool {
	for len(l.seenAt) > 0 && time.Since(l.seenAt[0].at) > dedupWindow {
		delete(l.seen, l.seenAt[0].dedup)
		l.seenAt = l.seenAt[1:]
	}
	_, dup := l.seen[dedup]
	return dup && dedup != ""
}

func copyOf(r *backend.Record) backend.Record {
	c := *r
	c.Header = slices.Clone(r.Header)
	c.Data = slices.Clone(r.Data)
	return c
}

// delivers tells whether there is a record for sub now.
func (s *Store) delivers(l *log, g *group, sub *subscription) bool {
	return (!l.ordered || g.owner == nil || g.owner == sub) &&
		slices.ContainsFunc(g.pending, func(p *pending) bool { return p.holder == nil })
}

// deliver finds the next record for sub, nil if there is none for it now.
func (s *Store) deliver(l *log, g *group, sub *subscription) *backend.Delivery {
	if l.ordered && g.owner != sub {
		if g.owner != nil {
			return nil // it is another's turn until that one leaves
		}
		g.owner = sub
	}
	for _, p := range g.pending {
		if p.holder != nil {
			continue
		}
		p.holder = sub
		d := &backend.Delivery{
			Record:      copyOf(&p.rec.Record), // the member owns it
			Incarnation: l.incarnation,
			Offset:      p.rec.offset,
			Redelivered: p.redelivered,
			Stored:      p.rec.stored,
			Token:       p,
		}
		p.redelivered = true
		return d
	}
	return nil
}

// ack settles the record for the group, whoever holds it now.
func (s *Store) ack(l *log, g *group, p *pending) {
	i := slices.Index(g.pending, p)
	if i < 0 {
		return
	}
	g.pending = slices.Delete(g.pending, i, i+1)
	s.unref(l, p.rec)
	s.wake()
}

func (s *Store) unref(l *log, r *record) {
	if r.refs--; r.refs == 0 && l.records[r.offset] == r {
		delete(l.records, r.offset)
		s.bytes -= int64(r.Size())
	}
}

// leave gives back what sub holds. Ordered: the records come again, in order,
// before any that sub had not received.
func (s *Store) leave(g *group, sub *subscription) {
	for _, p := range g.pending {
		if p.holder == sub {
			p.holder = nil
		}
	}
	if g.owner == sub {
		g.owner = nil
	}
	s.wake()
}
