package claims

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/stores"
)

// Bounds of the time between two sweeps: an eighth of the time that payloads are
// kept.
const (
	sweepShare = 8
	sweepLeast = time.Minute
	sweepMost  = time.Hour
	// openTimeout bounds the opening of a store.
	openTimeout = 30 * time.Second
	// keep is how many bytes of payloads are kept in memory, once there are any.
	keep = 16 << 20
)

// Ledger says in which stores payloads may be, by their URLs, the one that is written
// to first. It outlives the process.
type Ledger interface {
	Stores() []string
	// SetStores is called before payloads are written to a new store, and once
	// nothing is in a former one.
	SetStores(urls []string) error
}

// Config of Stores. Ledger and Keys are required.
type Config struct {
	Ledger Ledger
	Keys   *claimcheck.Keys
	// TTL and Observer are claimcheck.Config's.
	TTL      time.Duration
	Observer claimcheck.Observer
	// Dial connects to the JetStream server of nats:// URLs that name none.
	Dial func() (*nats.Conn, error)
	// Complete, if set, adds to a URL how its store is reached from here: files with
	// credentials, say. The place must remain the same.
	Complete func(ctx context.Context, url string) (string, error)
	// Unused, if set, tells whether no other process writes to a store any more that
	// is not written to here: only then may it be forgotten.
	Unused func(ctx context.Context, id string) (bool, error)
	Logger *slog.Logger
}

// Stores are the stores that payloads are in: the one that is written to, and
// those that were, until nothing is left in them.
//
//	store: a --edit--> store: b
//	[a]                [b, a] --sweep: is anything left in a?--> [b]
type Stores struct {
	Config
	room *claimcheck.Checkroom

	mu      sync.Mutex // held while the stores change
	open    map[string]claimcheck.Store
	current string     // its id
	nats    *nats.Conn // of Dial; nil until a store needs it
}

// Open opens the store of a URL, which is written to from then on, and those that were
// written to before, as far as they can be reached.
func Open(ctx context.Context, url string, c Config) (*Stores, error) {
	s := &Stores{Config: c, open: make(map[string]claimcheck.Store)}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if err := s.load(ctx, url); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	var err error
	s.room, err = claimcheck.New(claimcheck.Config{
		Stores: s.open, Current: s.current, Keys: c.Keys, TTL: c.TTL, Observer: c.Observer, Keep: keep,
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Room stores payloads in the stores.
func (s *Stores) Room() *claimcheck.Checkroom { return s.room }

// Current is the id of the store that is written to.
func (s *Stores) Current() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

func (s *Stores) load(ctx context.Context, url string) (err error) {
	if s.current, err = s.add(ctx, url); err != nil {
		return err
	}
	s.addFormer(ctx)
	return s.remember(url)
}

// addFormer opens those of the former stores that are not open, and tells whether
// there were any.
func (s *Stores) addFormer(ctx context.Context) (added bool) {
	before := len(s.open)
	for _, url := range s.Ledger.Stores() {
		if _, err := s.add(ctx, url); err != nil && ctx.Err() == nil {
			s.Logger.Error("a store that payloads were in cannot be opened: those that are there have to wait",
				"store", url, "error", err)
		}
	}
	return len(s.open) > before
}

// reopen tries again to open what could not be opened before.
func (s *Stores) reopen(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.addFormer(ctx) {
		return nil
	}
	return s.room.Use(s.open, s.current)
}

// add opens the store of a URL unless it is open, and returns its id. One that
// payloads were in before is not made: it would be empty, and they would be taken for
// lost.
func (s *Stores) add(ctx context.Context, url string) (string, error) {
	id, err := stores.ID(url)
	if err != nil || s.open[id] != nil {
		return id, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if s.nats == nil && stores.NeedsNATS(url) {
		if s.nats, err = s.Dial(); err != nil {
			return "", err
		}
	}
	known := slices.Contains(s.Ledger.Stores(), url)
	complete := url
	if s.Complete != nil {
		if complete, err = s.Complete(ctx, url); err != nil {
			return "", err
		}
	}
	store, err := stores.Open(ctx, complete, stores.Options{NATS: s.nats, Existing: known})
	switch {
	case err != nil && known:
		return "", fmt.Errorf("%w (it had payloads in it: it is not made anew)", err)
	case err != nil:
		return "", err
	}
	s.open[id] = store
	return id, nil
}

// remember writes down that payloads may be in the store of a URL, before any is.
func (s *Stores) remember(url string) error {
	known := s.Ledger.Stores()
	if len(known) > 0 && known[0] == url {
		return nil
	}
	others := slices.DeleteFunc(slices.Clone(known), func(u string) bool { return u == url })
	return s.Ledger.SetStores(append([]string{url}, others...))
}

// Use has new payloads go to the store of a URL. Those that are elsewhere stay
// where they are.
func (s *Stores) Use(ctx context.Context, url string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, err := s.add(ctx, url)
	if err != nil {
		return err
	}
	if err := s.remember(url); err != nil {
		return err
	}
	s.current = id
	return s.room.Use(s.open, id)
}

// Follow opens the stores that another process has decided on, by the Ledger, and closes
// those that are no longer among them. Nothing is written to the Ledger.
func (s *Stores) Follow(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	urls := s.Ledger.Stores()
	if len(urls) == 0 {
		return nil
	}
	id, err := s.add(ctx, urls[0])
	if err != nil {
		return err
	}
	s.addFormer(ctx)
	s.current = id
	if err := s.room.Use(s.open, id); err != nil {
		return err
	}
	for id := range maps.Clone(s.open) {
		named := slices.ContainsFunc(urls, func(url string) bool {
			of, err := stores.ID(url)
			return err != nil || of == id
		})
		if !named {
			if err := s.drop(id); err != nil {
				return err
			}
		}
	}
	return nil
}

// Run sweeps, and lets go of stores that nothing is in any more, until ctx ends.
func (s *Stores) Run(ctx context.Context, oldest claimcheck.Oldest) {
	every := min(max(s.TTL/sweepShare, sweepLeast), sweepMost)
	for sleep(ctx, every) {
		swept, err := s.room.Sweep(ctx, oldest)
		if err != nil && ctx.Err() == nil {
			s.Logger.Warn("payloads whose time is over could not all be deleted; trying again", "error", err)
		}
		if swept.Payloads > 0 {
			s.Logger.Info("deleted payloads whose time was over", "payloads", swept.Payloads, "bytes", swept.Bytes)
		}
		if err := s.reopen(ctx); err != nil && ctx.Err() == nil {
			s.Logger.Warn("cannot use a former store; trying again", "error", err)
		}
		if err := s.forget(ctx); err != nil && ctx.Err() == nil {
			s.Logger.Warn("cannot tell whether a former store is empty; trying again", "error", err)
		}
	}
}

// forget closes the stores that were written to before and are empty.
func (s *Stores) forget(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, url := range s.Ledger.Stores()[1:] {
		if err := s.forgetIfEmpty(ctx, url); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", url, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Stores) forgetIfEmpty(ctx context.Context, url string) error {
	id, err := stores.ID(url)
	if err != nil || s.open[id] == nil {
		return err
	}
	if id != s.current { // else it is the same place, reached in another way
		empty, err := s.empty(ctx, id)
		if err != nil || !empty {
			return err
		}
		if err := s.drop(id); err != nil {
			return err
		}
		s.Logger.Info("a former store is empty and no longer needed", "store", url)
	}
	return s.Ledger.SetStores(slices.DeleteFunc(slices.Clone(s.Ledger.Stores()), func(u string) bool { return u == url }))
}

// empty tells whether nothing is in a former store, and nothing is on its way to it.
func (s *Stores) empty(ctx context.Context, id string) (bool, error) {
	if s.Unused != nil {
		// First: whoever writes to it may have the last payload in it by then.
		if unused, err := s.Unused(ctx, id); err != nil || !unused {
			return false, err
		}
	}
	holds, err := s.room.Holds(ctx, id)
	return err == nil && !holds, err
}

// drop closes a store that is not the current one.
func (s *Stores) drop(id string) error {
	left := maps.Clone(s.open)
	delete(left, id)
	if err := s.room.Use(left, s.current); err != nil {
		return err
	}
	old := s.open[id]
	s.open = left
	if err := old.Close(); err != nil {
		s.Logger.Warn("closing a former store", "store", id, "error", err)
	}
	return nil
}

// Close closes the stores, after whoever uses the Room has ended.
func (s *Stores) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, store := range s.open {
		errs = append(errs, store.Close())
	}
	if s.nats != nil {
		s.nats.Close()
	}
	return errors.Join(errs...)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
