package channel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/internal/budget"
)

// Config of a Dispatcher. Backend, Sender and Key are required; for all else
// the zero value is a sound default.
type Config struct {
	Backend backend.Backend
	Sender  egress.Sender
	// Key signs internal headers on the log (HMAC-SHA256): at least 16
	// bytes, the same for all dispatchers that share the log.
	Key []byte
	// Budget bounds the bytes of events in memory; nil: 256 MiB of its own.
	Budget *budget.Budget
	// Claims keeps payloads that are too large for the log; nil: there are
	// none.
	Claims *Claims
	// Pods runs steps that share a pod; nil: none do.
	Pods Pods
	// Window is the most records of one subscription in flight. 0: 256.
	Window int
	// CheckpointAfter bounds the work at risk: once a chain has run for so
	// long, its next hop is stored. 0: 1 s; negative: every hop is.
	CheckpointAfter time.Duration
	// AttemptTimeout limits an attempt whose policy has no timeout. 0: 10 min.
	AttemptTimeout time.Duration
	Observer       Observer
	// Tracer makes a span of each hop; nil: there are none.
	Tracer Tracer
	Logger *slog.Logger
}

// Defaults of Config, and bounds that are not worth a setting.
const (
	DefaultBudget          = 256 << 20
	DefaultWindow          = 256
	DefaultCheckpointAfter = time.Second
	DefaultAttemptTimeout  = 10 * time.Minute

	minKey = 16
	// MaxAttributeBytes is left in a record for the attributes of an event whose
	// data is as large as the threshold: what ingress takes as a header.
	MaxAttributeBytes = 64 << 10
)

// Validate tells what is wrong with c, all of it.
func (c *Config) Validate() error {
	var errs []error
	if c.Backend == nil {
		errs = append(errs, errors.New("no backend"))
	}
	if c.Sender == nil {
		errs = append(errs, errors.New("no sender"))
	}
	if len(c.Key) < minKey {
		errs = append(errs, fmt.Errorf("key has %d bytes, want at least %d", len(c.Key), minKey))
	}
	if c.Claims != nil && c.Backend != nil {
		errs = append(errs, fits(c.Claims.Threshold(), c.Backend.Limits().MaxRecordBytes))
	}
	if c.Window < 0 {
		errs = append(errs, fmt.Errorf("window is %d, want 1 or more", c.Window))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Budget == nil {
		c.Budget = budget.New(DefaultBudget)
	}
	if c.Window == 0 {
		c.Window = DefaultWindow
	}
	if c.CheckpointAfter == 0 {
		c.CheckpointAfter = DefaultCheckpointAfter
	}
	if c.AttemptTimeout == 0 {
		c.AttemptTimeout = DefaultAttemptTimeout
	}
	if c.Observer == nil {
		c.Observer = noObserver{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Dispatcher moves events: it publishes what ingress accepts, and runs the
// subscriptions of the current table. Its methods may be called from any
// goroutine. The logs and groups of a table must exist before it is applied;
// the Dispatcher makes and deletes none.
type Dispatcher struct {
	Config
	limit  int // of a record, in bytes
	sign   signer
	nonces nonces
	// checkpointAfter is Config's, unless it was changed.
	checkpointAfter atomic.Int64

	discards discards

	current atomic.Pointer[View]

	mu      sync.Mutex // guards what follows
	old     []*View    // may still be held, oldest first
	runners map[string]*runner
	closed  bool

	// fetching ends first, when records are no longer taken from the logs;
	// working ends when what is in flight must stop.
	fetching, working         context.Context //nolint:containedctx // they are the Dispatcher's life, not a call's
	stopFetching, stopWorking context.CancelCauseFunc
	running                   sync.WaitGroup // runners
	cleaning                  sync.WaitGroup // discards
}

// ErrStopped is the cause with which work in flight is cancelled when a
// Dispatcher stops. What was not settled comes back.
var ErrStopped = errors.New("dispatcher stopped")

// New makes a Dispatcher with an empty table. Close frees it.
func New(c Config) (*Dispatcher, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configure dispatcher: %w", err)
	}
	d := &Dispatcher{
		Config:  c.withDefaults(),
		limit:   c.Backend.Limits().MaxRecordBytes,
		sign:    signer{key: c.Key},
		runners: make(map[string]*runner),
	}
	d.nonces.start()
	d.checkpointAfter.Store(int64(d.CheckpointAfter))
	d.fetching, d.stopFetching = context.WithCancelCause(context.Background())
	d.working, d.stopWorking = context.WithCancelCause(context.Background())
	empty, err := newView(0, new(Table))
	if err != nil {
		return nil, err
	}
	d.current.Store(empty)
	d.discards.d, d.discards.wake = d, make(chan struct{}, 1)
	if d.Claims != nil {
		d.cleaning.Go(func() { d.discards.run(d.working) })
	}
	return d, nil
}

// Apply makes t the current table and returns its epoch. Subscriptions that
// are new begin to be run, those that are gone are closed: what they hold
// stays in their groups. An error leaves the table as it was.
func (d *Dispatcher) Apply(t *Table) (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, fmt.Errorf("apply table: %w", ErrStopped)
	}
	last := d.current.Load()
	v, err := newView(last.epoch+1, t)
	if err != nil {
		return 0, fmt.Errorf("apply table: %w", err)
	}
	d.old = append(d.old, last)
	d.current.Store(v)
	for uid, r := range d.runners {
		if s := v.steps[uid]; s == nil || s.channel.log != r.log {
			r.stop()
			delete(d.runners, uid)
		}
	}
	for uid, s := range v.steps {
		if d.runners[uid] == nil {
			d.runners[uid] = d.startRunner(s)
		}
	}
	return v.epoch, nil
}

// Hold pins the current table until Release.
func (d *Dispatcher) Hold() *View {
	for {
		v := d.current.Load()
		v.holders.Add(1)
		// Unless v was replaced before it was counted, Observed sees it.
		if d.current.Load() == v {
			return v
		}
		v.holders.Add(-1)
	}
}

// Observed is the epoch of the oldest table that a publish or a chain still
// works from. Once it has reached the epoch that Apply returned, nothing is
// routed by an older table any more.
func (d *Dispatcher) Observed() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept := d.old[:0]
	for _, v := range d.old {
		if v.holders.Load() > 0 {
			kept = append(kept, v)
		}
	}
	clear(d.old[len(kept):])
	d.old = kept
	if len(kept) > 0 {
		return kept[0].epoch
	}
	return d.current.Load().epoch
}

// Epoch of the current table, 0 before the first.
func (d *Dispatcher) Epoch() uint64 { return d.current.Load().epoch }

// State of a subscription in this process.
type State struct {
	// Err is why records cannot be received just now, or nil.
	Err error
	// InFlight records are held; Parked ones of them wait for a dead letter
	// sink or for the backend.
	InFlight, Parked int
}

// State of the subscription uid; false if it is not in the current table.
func (d *Dispatcher) State(uid string) (State, bool) {
	d.mu.Lock()
	r := d.runners[uid]
	d.mu.Unlock()
	if r == nil {
		return State{}, false
	}
	return r.state(), true
}

// Err tells which subscriptions cannot receive just now, or nil.
func (d *Dispatcher) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, r := range d.runners {
		if err := r.state().Err; err != nil {
			errs = append(errs, fmt.Errorf("subscription %s of channel %s: %w", r.uid, r.log, err))
		}
	}
	return errors.Join(errs...)
}

// Totals over all subscriptions: records in flight, and parked ones of them.
func (d *Dispatcher) Totals() (inFlight, parked int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.runners {
		s := r.state()
		inFlight += s.InFlight
		parked += s.Parked
	}
	return inFlight, parked
}

// Close stops in order: no more records are fetched; what is in flight is
// finished until ctx ends (retries and parked records do not wait: they come
// back); the rest is cancelled with ErrStopped. It returns when no goroutine
// is left, with an error if something had to be cancelled. The Backend and
// the Sender stay open: they are the caller's.
func (d *Dispatcher) Close(ctx context.Context) error {
	d.stopFetching(ErrStopped)
	d.mu.Lock()
	d.closed = true
	for _, r := range d.runners {
		r.wake()
	}
	d.mu.Unlock()
	done := make(chan struct{})
	go func() {
		d.running.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		inFlight, _ := d.Totals()
		err = fmt.Errorf("%d records in flight were given back: %w", inFlight, context.Cause(ctx))
	}
	d.stopWorking(ErrStopped)
	<-done
	d.cleaning.Wait()
	d.discards.finish(ctx)
	return err
}
