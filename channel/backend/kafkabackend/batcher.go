package kafkabackend

import "sync"

// batcher has many callers' wishes served together: what comes in while an
// exchange is under way goes into the next one. Nothing waits for a timer.
type batcher[T any] struct {
	lanes int       // exchanges at once
	most  int       // wishes in an exchange
	run   func([]T) // answers each of them
	group *crew

	mu      sync.Mutex
	waiting []T
	running int
}

func (b *batcher[T]) add(wishes ...T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, wishes...)
	if b.running < b.lanes && len(b.waiting) > 0 {
		b.running++
		b.group.Go(b.loop)
	}
}

func (b *batcher[T]) loop() {
	for {
		batch := b.take()
		if batch == nil {
			return
		}
		b.run(batch)
	}
}

func (b *batcher[T]) take() []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.waiting), b.most)
	if n == 0 {
		b.waiting = nil
		b.running--
		return nil
	}
	batch := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	return batch
}
