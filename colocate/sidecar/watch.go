package sidecar

import (
	"sync"
	"sync/atomic"
	"time"
)

// How the watch works.
const (
	// watchEvery is how often connections are looked at on which a chain has run
	// for as long: for up to twice that a chain may go on after its client.
	watchEvery = 25 * time.Millisecond
	// sleepAfter is after how many looks at nothing the watch sleeps.
	sleepAfter = 40
	// idleAfter is how long nothing must run for the process to be idle.
	idleAfter = 5 * time.Second
)

// watch looks after the connections on which a chain runs, for all of a server: it
// is one goroutine, which sleeps while there are none. A chain costs it nothing
// unless it takes longer than watchEvery.
type watch struct {
	tellAfter time.Duration
	idle      func()

	asleep atomic.Bool
	alarm  chan struct{}

	mu    sync.Mutex
	conns map[*conn]struct{}
}

func newWatch(tellAfter time.Duration, idle func()) *watch {
	if idle == nil {
		idle = func() {}
	}
	w := &watch{tellAfter: tellAfter, idle: idle, alarm: make(chan struct{}, 1), conns: make(map[*conn]struct{})}
	w.asleep.Store(true)
	return w
}

func (w *watch) add(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns[c] = struct{}{}
}

func (w *watch) remove(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
}

func (w *watch) wake() {
	if w.asleep.Load() && w.asleep.CompareAndSwap(true, false) {
		w.alarm <- struct{}{}
	}
}

// run looks until stop is closed.
func (w *watch) run(stop <-chan struct{}) {
	idle := time.NewTimer(idleAfter)
	idle.Stop()
	defer idle.Stop()
	for {
		select {
		case <-stop:
			return
		case <-idle.C:
			w.idle()
		case <-w.alarm:
			if !w.lookUntilQuiet(stop) {
				return
			}
			idle.Reset(idleAfter)
		}
	}
}

// lookUntilQuiet is false if it was stopped.
func (w *watch) lookUntilQuiet(stop <-chan struct{}) bool {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for quiet := 0; quiet < sleepAfter; {
		select {
		case <-stop:
			return false
		case now := <-tick.C:
			quiet++
			if w.look(now) {
				quiet = 0
			}
		}
		if quiet == sleepAfter {
			w.asleep.Store(true)
			// A chain that began just before found the watch awake.
			if w.look(time.Now()) && w.asleep.CompareAndSwap(true, false) {
				quiet = 0
			}
		}
	}
	return true
}

// look tells whether any chain runs.
func (w *watch) look(now time.Time) (busy bool) {
	w.mu.Lock()
	conns := make([]*conn, 0, len(w.conns))
	for c := range w.conns {
		conns = append(conns, c)
	}
	w.mu.Unlock()
	for _, c := range conns {
		if c.look(now, w.tellAfter) {
			busy = true
		}
	}
	return busy
}
