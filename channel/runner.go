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
	fetch, endFetch := context.WithCancel(d.fetching)
	r.fetch = fetch
	r.stop = func() { endFetch(); endWork() }
	d.running.Add(1)
	go r.run()
	return r
}

// run subscribes, again and again if it must, until it is stopped.
func (r *runner) run() {
	defer r.d.running.Done()
	defer r.stop()
	pause := subscribePause
	for r.fetch.Err() == nil {
		s, err := r.d.Backend.Subscribe(r.fetch, r.log, r.uid, backend.Options{
			Window: r.d.Window, Buffer: fetchBuffer,
		})
		if err == nil {
			r.err.Store(nil)
			pause = subscribePause
			err = r.receive(s)
			r.tasks.Wait()
			s.Close()
		}
		if r.fetch.Err() != nil {
			return
		}
		r.err.Store(&err)
		r.d.Logger.Warn("cannot receive; trying again",
			"log", r.log, "subscription", r.uid, "pause", pause, "error", err)
		sleep(r.fetch, pause)
		pause = min(2*pause, subscribePauseMax)
	}
}

// receive takes records until there is an error.
func (r *runner) receive(s backend.Subscription) error {
	for {
		if err := r.admit(); err != nil {
			return err
		}
		rec, err := s.Receive(r.fetch)
		if err != nil {
			<-r.slots
			return err
		}
		n := int64(rec.Size() + recordOverhead)
		if err := r.d.Budget.Acquire(r.fetch, r.namespace, n); err != nil {
			<-r.slots
			return err // rec was not acked: it comes back
		}
		r.start(&task{r: r, sub: s, rec: rec, charged: n, received: time.Now()})
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
