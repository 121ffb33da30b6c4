package kafkabackend

import "sync"

// crew is the backend's goroutines. Each ends with the backend's life.
type crew struct {
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// Go starts one. After close there are none but those that answer, at once,
// who came too late.
func (c *crew) Go(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		go do()
		return
	}
	c.wg.Go(do)
}

// close waits until all have ended.
func (c *crew) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wg.Wait()
}
