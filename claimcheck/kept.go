package claimcheck

import (
	"container/list"
	"crypto/sha256"
	"io"
	"sync"
)

// Most payloads are delivered at once, by the process that has just stored them. Small
// ones, of which to open, read and check the object again is much of what they cost,
// are kept in memory as well for a while:
//
//	in:  payload --> the store, as every other
//	            '--> memory, while there is room: the one that was used least lately goes
//	out: memory if it is there, else the store
//
// What is handed out of memory has not left the process since it was hashed. A payload is
// never in memory alone: there is no claim to it before it is in the store.
//
// The bound holds for all buffers together, those in use and those that wait to be used
// again included. Where it leaves no room a payload is not kept.
type kept struct {
	bound int

	mu     sync.Mutex // guards what follows, and users of all
	byName map[string]*keptPayload
	used   list.List        // of *keptPayload, those of byName; the one that was used last is in front
	free   map[int][][]byte // by their capacity
	taken  int              // bytes of all buffers
}

// keepMost is the largest payload that is kept: of larger ones opening them is a small
// part of what they cost.
const keepMost = 2 << 20

// keepLeast is the smallest buffer; each of the others is twice as large as the one before.
const keepLeast = 64 << 10

// keptPayload is a payload in memory. Its bytes do not change once it is kept.
type keptPayload struct {
	of    *kept
	data  []byte
	whole [sha256.Size]byte
	name  string
	place *list.Element // in used; nil if it is not among them
	users int           // its place is one
}

// newKept returns nil, which keeps nothing, for a bound of 0.
func newKept(bound int) *kept {
	if bound <= 0 {
		return nil
	}
	return &kept{bound: bound, byName: map[string]*keptPayload{}, free: map[int][][]byte{}}
}

// begin to keep a payload of an announced length, as it comes: nil if it is not kept. It
// must be released.
func (k *kept) begin(length int64) *keptPayload {
	if k == nil || length <= 0 || length > keepMost {
		return nil
	}
	size := keepLeast
	for int64(size) < length {
		size *= 2
	}
	k.mu.Lock()
	buf, ok := k.take(size)
	k.mu.Unlock()
	if !ok {
		return nil
	}
	if buf == nil {
		buf = make([]byte, size)
	}
	return &keptPayload{of: k, data: buf[:length], users: 1}
}

// take gets a buffer that is free, or room for one that has yet to be made.
func (k *kept) take(size int) (buf []byte, ok bool) {
	for {
		if free := k.free[size]; len(free) > 0 {
			k.free[size] = free[:len(free)-1]
			return free[len(free)-1], true
		}
		if k.taken+size <= k.bound {
			k.taken += size
			return nil, true
		}
		if !k.shed() && !k.evict() {
			return nil, false
		}
	}
}

// shed lets go of a free buffer.
func (k *kept) shed() bool {
	for size, free := range k.free {
		if n := len(free); n > 0 {
			free[n-1] = nil
			k.free[size] = free[:n-1]
			k.taken -= size
			return true
		}
	}
	return false
}

// evict frees the buffer of the payload that was used least lately and is not in use.
func (k *kept) evict() bool {
	for e := k.used.Back(); e != nil; e = e.Prev() {
		if p, _ := e.Value.(*keptPayload); p.users == 1 {
			k.remove(p)
			return true
		}
	}
	return false
}

// remove is called with k.mu held, as is done.
func (k *kept) remove(p *keptPayload) {
	delete(k.byName, p.name)
	k.used.Remove(p.place)
	p.place = nil
	k.done(p)
}

func (k *kept) done(p *keptPayload) {
	if p.users--; p.users == 0 {
		size := cap(p.data)
		k.free[size] = append(k.free[size], p.data[:0])
		p.data = nil
	}
}

// keep what c is a claim to; p may be nil. Nothing is written to it any more.
func (k *kept) keep(c *Claim, p *keptPayload) {
	if p == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p.name, p.whole = storedName(c.Store, c.Object), c.SHA256
	p.place = k.used.PushFront(p)
	p.users++
	k.byName[p.name] = p
}

// hold what c is a claim to, if it is kept. It must be released.
func (k *kept) hold(c *Claim) *keptPayload {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.byName[storedName(c.Store, c.Object)]
	if p == nil || p.whole != c.SHA256 || int64(len(p.data)) != c.Size {
		return nil
	}
	k.used.MoveToFront(p.place)
	p.users++
	return p
}

// release ends a use; p may be nil.
func (p *keptPayload) release() {
	if p == nil {
		return
	}
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.of.done(p)
}

// drop a payload that is being deleted.
func (k *kept) drop(store, object string) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := k.byName[storedName(store, object)]; p != nil {
		k.remove(p)
	}
}

// storedName tells an object from all others in all stores.
func storedName(store, object string) string { return store + " " + object }

// keptReader reads a payload in memory.
type keptReader struct {
	notify Observer

	mu     sync.Mutex // of who reads and who closes: net/http may do so at once
	of     *keptPayload
	rest   []byte
	closed bool
}

func (r *keptReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, err := r.next(len(p))
	return copy(p, at), err
}

// Next implements Chunked.
func (r *keptReader) Next(most int) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next(most)
}

func (r *keptReader) next(most int) ([]byte, error) {
	if r.closed {
		return nil, errClosed
	}
	if len(r.rest) == 0 {
		return nil, io.EOF
	}
	p := r.rest[:min(most, len(r.rest))]
	r.rest = r.rest[len(p):]
	r.notify.Fetched(int64(len(p)), len(r.rest) == 0)
	return p, nil
}

func (r *keptReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.closed, r.rest = true, nil
		r.of.release()
	}
	return nil
}
