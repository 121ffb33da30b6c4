package channel

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// How a runner tries again when it cannot subscribe.
const (
	subscribePause    = 100 * time.Millisecond
	subscribePauseMax = 10 * time.Second
)

// fetchBuffer is what one subscription may fetch ahead, in bytes. It is the fixed
// buffer that a stream has beside the budget.
const fetchBuffer = 256 << 10

// recordOverhead is what a record in flight costs beside its own bytes.
const recordOverhead = 4 << 10

// runner runs one subscription: it takes records from the group, as many at a
// time as the window and the budget allow, and starts a task for each.
type runner struct {
	d         *Dispatcher
	uid       string
	log       string
	namespace string

	fetch, work context.Context //nolint:containedctx // the runner's life
	stop        context.CancelFunc

	sub     backend.Subscription // nil: to be opened; of who runs run
	pause   time.Duration        // before it is, if that failed
	resting atomic.Bool          // nobody runs run: see rests
	awake   func()               // wake, made once

	slots    chan struct{} // one for each record in flight, and one to fetch
	inFlight atomic.Int64
	parked   atomic.Int64
	unparked chan struct{} // wakes the fetching goroutine, one place
	err      atomic.Pointer[error]
	keys     *keys // nil unless the channel is ordered
	tasks    sync.WaitGroup
}

// startRunner is called with d.mu held.
func (d *Dispatcher) startRunner(s *step) *runner {
	r := &runner{
		d:         d,
		uid:       s.UID,
		log:       s.channel.log,
		namespace: s.channel.Namespace,
		slots:     make(chan struct{}, d.Window),
		unparked:  make(chan struct{}, 1),
	}
	if s.channel.Ordered {
		r.keys = new(keys)
	}
	// Fetching ends with the dispatcher's fetching; work goes on until it is
	// stopped; a subscription that is removed ends with both.
	var endWork context.CancelFunc
	r.work, endWork = context.WithCancel(d.working)
	r.awake = r.wake
	fetch, endFetch := context.WithCancel(d.fetching)
	r.fetch = fetch
	r.stop = func() { endFetch(); endWork(); r.wake() }
	d.running.Add(1)
	go r.run()
	return r
}

// run subscribes, again and again if it must, and receives, until the runner is
// stopped or rests.
func (r *runner) run() {
	for r.fetch.Err() == nil {
		err := r.subscribe()
		if err == nil {
			if err = r.receive(); err == nil {
				return // wake goes on
			}
			r.close()
		}
		if r.fetch.Err() == nil {
			r.failed(err)
		}
	}
	r.close()
	r.stop()
	r.d.running.Done()
}

// subscribe opens the subscription unless it is open.
func (r *runner) subscribe() (err error) {
	if r.sub != nil {
		return nil
	}
	r.sub, err = r.d.Backend.Subscribe(r.fetch, r.log, r.uid, backend.Options{
		Window: r.d.Window, Buffer: fetchBuffer,
	})
	if err != nil {
		r.sub = nil
		return err
	}
	r.err.Store(nil)
	r.pause = subscribePause
	return nil
}

// close leaves the group once what was received has been dealt with.
func (r *runner) close() {
	r.tasks.Wait()
	if r.sub != nil {
		r.sub.Close()
		r.sub = nil
	}
}

// failed says what is wrong, and waits before the next try.
func (r *runner) failed(err error) {
	r.err.Store(&err)
	pause := max(r.pause, subscribePause)
	r.d.Logger.Warn("cannot receive; trying again",
		"log", r.log, "subscription", r.uid, "pause", pause, "error", err)
	sleep(r.fetch, pause)
	r.pause = min(2*pause, subscribePauseMax)
}

// receive takes records until there is an error, or, without one, until the
// runner rests.
func (r *runner) receive() error {
	for !r.rests() {
		if err := r.admit(); err != nil {
			return err
		}
		rec, err := r.sub.Receive(r.fetch)
		if err != nil {
			<-r.slots
			return err
		}
		n := int64(rec.Size() + recordOverhead)
		if err := r.d.Budget.Acquire(r.fetch, r.namespace, n); err != nil {
			<-r.slots
			return err // rec was not acked: it comes back
		}
		r.start(&task{r: r, sub: r.sub, rec: rec, charged: n, received: time.Now()})
	}
	return nil
}

// rests tells whether nobody has to run the runner until wake is called. Most of
// thousands of subscriptions have nothing to do at any time, and a goroutine costs
// 8 KiB of stack. If it returns true another may run it by then.
func (r *runner) rests() bool {
	s, ok := r.sub.(backend.Rester)
	if !ok {
		return false
	}
	r.resting.Store(true)
	if !s.Rest(r.awake) && r.resting.CompareAndSwap(true, false) {
		return false
	}
	if r.fetch.Err() != nil {
		r.wake() // who ended it may have come too early to see that we rest
	}
	return true
}

// wake has a runner that rests run again.
func (r *runner) wake() {
	if r.resting.CompareAndSwap(true, false) {
		go r.run()
	}
}

// admit waits for a place in the window. Parked records must not fill it:
// beyond a quarter, fetching stops, since what comes next would only park too.
func (r *runner) admit() error {
	for r.parked.Load() >= int64(max(1, cap(r.slots)/4)) {
		select {
		case <-r.unparked:
		case <-r.fetch.Done():
			return context.Cause(r.fetch)
		}
	}
	select {
	case r.slots <- struct{}{}:
		return nil
	case <-r.fetch.Done():
		return context.Cause(r.fetch)
	}
}

func (r *runner) start(t *task) {
	r.tasks.Add(1)
	r.inFlight.Add(1)
	if r.keys != nil && t.rec.Key != "" && !r.keys.enter(t.rec.Key, t) {
		return // runs after those of its key that came before
	}
	go t.run()
}

// finish is the end of every task.
func (r *runner) finish(t *task) {
	r.park(t, false)
	r.d.Budget.Release(r.namespace, t.charged)
	r.inFlight.Add(-1)
	<-r.slots
	if r.keys != nil && t.rec.Key != "" {
		if next := r.keys.leave(t.rec.Key); next != nil {
			go next.run()
		}
	}
	r.tasks.Done()
}

// park counts a task that waits for a dead letter sink or for the backend.
func (r *runner) park(t *task, parked bool) {
	if t.parked == parked {
		return
	}
	t.parked = parked
	if parked {
		r.parked.Add(1)
		return
	}
	r.parked.Add(-1)
	select {
	case r.unparked <- struct{}{}:
	default:
	}
}

func (r *runner) state() State {
	s := State{InFlight: int(r.inFlight.Load()), Parked: int(r.parked.Load())}
	if err := r.err.Load(); err != nil {
		s.Err = *err
	}
	return s
}

// keys runs the tasks of one key one after the other, in the order in which
// they entered, and those of different keys side by side.
type keys struct {
	mu      sync.Mutex
	waiting map[string][]*task // present: a task of that key runs
}

// enter tells whether t may run now; if not, some leave returns it.
func (k *keys) enter(key string, t *task) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.waiting == nil {
		k.waiting = make(map[string][]*task)
	}
	q, busy := k.waiting[key]
	if busy {
		k.waiting[key] = append(q, t)
		return false
	}
	k.waiting[key] = nil
	return true
}

// leave ends the running task of a key and returns the one to run next, if any.
func (k *keys) leave(key string) *task {
	k.mu.Lock()
	defer k.mu.Unlock()
	q := k.waiting[key]
	if len(q) == 0 {
		delete(k.waiting, key)
		return nil
	}
	k.waiting[key] = q[1:]
	return q[0]
}

// gone reports whether err says that the log, or what was asked of it, is not
// there to be had.
func gone(err error) bool {
	return errors.Is(err, backend.ErrNotFound) || errors.Is(err, backend.ErrSealed)
}
