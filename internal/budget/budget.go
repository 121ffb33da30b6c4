// Package budget bounds the bytes of events in memory, for a whole process,
// and shares them fairly among namespaces (DESIGN, promise P4).
//
//	TryAcquire, Acquire --> [ used <= total ] --> Release
//	                 |                               |
//	                 v                               v
//	    namespace a: w1 w2 w3   \   granted in turn, one namespace
//	    namespace b: w4         /   after the other, in order within each
//
// There are no goroutines: a Release grants what has become free to those who
// wait.
package budget

import (
	"context"
	"slices"
	"sync"
)

// Budget is a byte budget. Make it with New. Its methods may be called from any
// goroutine.
type Budget struct {
	mu    sync.Mutex
	total int64
	used  int64
	// queues of namespaces that wait, in the order of their turns.
	turns  []*queue
	queues map[string]*queue
}

// queue is what one namespace waits for, in order.
type queue struct {
	namespace string
	waiters   []*waiter
	// deficit is what the namespace may still take in this round of turns
	// (deficit round robin: Shreedhar and Varghese, 1995): fair by bytes,
	// not by count, so that small events do not wait behind large ones of
	// another namespace.
	deficit int64
}

type waiter struct {
	n       int64
	granted chan struct{}
	done    bool // granted; guarded by Budget.mu
}

// quantum is what a namespace may take in one turn, in bytes.
const quantum = 256 << 10

// New makes a budget of total bytes, at least 1.
func New(total int64) *Budget {
	return &Budget{total: max(total, 1), queues: make(map[string]*queue)}
}

// Total is the size of the budget in bytes.
func (b *Budget) Total() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}

// SetTotal changes the size, to at least 1. What is used beyond a smaller one holds up
// those who come later.
func (b *Budget) SetTotal(total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total = max(total, 1)
	b.grant()
}

// Used is what is acquired or forced now, in bytes. It can exceed Total.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// fits tells whether n more bytes may be used. What is larger than the whole
// budget is let through alone: it would wait for ever otherwise.
func (b *Budget) fits(n int64) bool { return b.used+n <= b.total || b.used == 0 }

// TryAcquire takes n bytes if they are free and nobody waits for them.
func (b *Budget) TryAcquire(_ string, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.turns) > 0 || !b.fits(n) {
		return false
	}
	b.used += n
	return true
}

// Acquire waits for n bytes. An error is the context's, and nothing was taken.
func (b *Budget) Acquire(ctx context.Context, namespace string, n int64) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	b.mu.Lock()
	if len(b.turns) == 0 && b.fits(n) {
		b.used += n
		b.mu.Unlock()
		return nil
	}
	w := b.enqueue(namespace, n)
	b.mu.Unlock()
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.done {
		return nil // granted at the same moment: it is the caller's
	}
	// Nothing of w stays behind: whoever keeps trying while the budget is
	// used up must not fill the memory with what has given up.
	q := b.queues[namespace]
	q.waiters = slices.DeleteFunc(q.waiters, func(o *waiter) bool { return o == w })
	b.grant() // w may have been the one that the others waited behind
	return context.Cause(ctx)
}

func (b *Budget) enqueue(namespace string, n int64) *waiter {
	w := &waiter{n: n, granted: make(chan struct{})}
	q := b.queues[namespace]
	if q == nil {
		q = &queue{namespace: namespace}
		b.queues[namespace] = q
		b.turns = append(b.turns, q)
	}
	q.waiters = append(q.waiters, w)
	return w
}

// Force takes n bytes at once, beyond the budget if it must be. It is for what
// is in memory already, and holds up those who come later.
func (b *Budget) Force(_ string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += n
}

// Release gives back n bytes.
func (b *Budget) Release(_ string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	b.grant()
}

// grant serves the namespaces in turn until the next in line does not fit. It
// stops there, so that a large request is not starved by small ones.
func (b *Budget) grant() {
	for len(b.turns) > 0 {
		q := b.turns[0]
		if len(q.waiters) == 0 {
			b.turns = b.turns[1:]
			delete(b.queues, q.namespace)
			continue
		}
		w := q.waiters[0]
		if q.deficit < w.n && len(b.turns) > 1 {
			q.deficit += quantum
			b.turns = append(b.turns[1:], q)
			continue
		}
		if !b.fits(w.n) {
			return
		}
		b.used += w.n
		q.deficit = max(0, q.deficit-w.n)
		q.waiters = q.waiters[1:]
		w.done = true
		close(w.granted)
	}
}
