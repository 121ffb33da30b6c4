package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/stores"
	"github.com/sidestep-dev/sidestep/internal/telemetry"
)

// claimFolder is where payloads are kept unless the files say otherwise, under --data.
const claimFolder = "claims"

// Bounds of the time between two sweeps: an eighth of the time that payloads are
// kept.
const (
	sweepShare = 8
	sweepLeast = time.Minute
	sweepMost  = time.Hour
	// openTimeout bounds the opening of a store.
	openTimeout = 30 * time.Second
)

// claimStores are the stores that payloads are in: the one that is written to, and
// those that were, until nothing is left in them.
//
//	store: a --edit--> store: b
//	[a]                [b, a] --sweep: is anything left in a?--> [b]
type claimStores struct {
	room   *claimcheck.Checkroom
	state  *state
	lock   sync.Locker                // of state
	dial   func() (*nats.Conn, error) // to the backend's server
	logger *slog.Logger

	mu      sync.Mutex // held while the stores change
	open    map[string]claimcheck.Store
	current string     // its id
	nats    *nats.Conn // of dial; nil until a store needs it
}

// openClaims opens the stores and makes what keeps payloads in them.
func (p *process) openClaims(ctx context.Context, undo *closers) (*channel.Claims, error) {
	c := p.set.Config.ClaimCheck
	keys, err := claimcheck.NewKeys(p.state.Key)
	if err != nil {
		return nil, err
	}
	s := &claimStores{
		state: p.state, lock: &p.lifecycle.mu, logger: p.Logger,
		dial: func() (*nats.Conn, error) {
			n, err := p.brokers.nats()
			if err != nil {
				return nil, err
			}
			return n.Dial("sidestep claims")
		},
		open: make(map[string]claimcheck.Store),
	}
	undo.add(s.close)
	url, err := p.claimURL(c.Store)
	if err != nil {
		return nil, err
	}
	if err := s.load(ctx, url); err != nil {
		return nil, fmt.Errorf("claim-check: %w", err)
	}
	s.room, err = claimcheck.New(claimcheck.Config{
		Stores: s.open, Current: s.current, Keys: keys, TTL: c.TTL, Observer: telemetry.NewClaims(p.registry),
	})
	if err != nil {
		return nil, err
	}
	p.claims = s
	return channel.NewClaims(channel.ClaimsConfig{
		Room: s.room, Threshold: int(c.Threshold), MaxEventBytes: c.MaxEventBytes,
		LinkBase: "http://" + p.listener.Addr().String(), LinkTTL: c.LinkTTL,
	})
}

// claimURL is the URL of the store that the files name, or of the default.
func (p *process) claimURL(configured string) (string, error) {
	if configured != "" {
		return configured, nil
	}
	dir, err := filepath.Abs(filepath.Join(p.Data, claimFolder))
	if err != nil {
		return "", fmt.Errorf("find the folder for payloads: %w", err)
	}
	return "file://" + filepath.ToSlash(dir), nil
}

// load opens the store of a URL, which is the current one from now on, and those
// that were written to before.
func (s *claimStores) load(ctx context.Context, url string) (err error) {
	if s.current, err = s.add(ctx, url); err != nil {
		return err
	}
	s.addFormer(ctx)
	return s.remember(url)
}

// addFormer opens those of the former stores that are not open, and tells whether
// there were any.
func (s *claimStores) addFormer(ctx context.Context) (added bool) {
	s.lock.Lock()
	urls := slices.Clone(s.state.ClaimStores)
	s.lock.Unlock()
	before := len(s.open)
	for _, url := range urls {
		if _, err := s.add(ctx, url); err != nil && ctx.Err() == nil {
			s.logger.Error("a store that payloads were in cannot be opened: those that are there have to wait",
				"store", url, "error", err)
		}
	}
	return len(s.open) > before
}

// reopen tries again to open what could not be opened before.
func (s *claimStores) reopen(ctx context.Context) error {
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
func (s *claimStores) add(ctx context.Context, url string) (string, error) {
	id, err := stores.ID(url)
	if err != nil || s.open[id] != nil {
		return id, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if s.nats == nil && stores.NeedsNATS(url) {
		if s.nats, err = s.dial(); err != nil {
			return "", err
		}
	}
	s.lock.Lock()
	known := slices.Contains(s.state.ClaimStores, url)
	s.lock.Unlock()
	store, err := stores.Open(ctx, url, stores.Options{NATS: s.nats, Existing: known})
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
func (s *claimStores) remember(url string) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	if len(s.state.ClaimStores) > 0 && s.state.ClaimStores[0] == url {
		return nil
	}
	others := slices.DeleteFunc(slices.Clone(s.state.ClaimStores), func(u string) bool { return u == url })
	s.state.ClaimStores = append([]string{url}, others...)
	return s.state.save()
}

// use has new payloads go to the store of a URL. Those that are elsewhere stay
// where they are.
func (s *claimStores) use(ctx context.Context, url string) error {
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

// run sweeps, and lets go of stores that nothing is in any more, until ctx ends.
func (s *claimStores) run(ctx context.Context, ttl time.Duration, oldest claimcheck.Oldest) {
	every := min(max(ttl/sweepShare, sweepLeast), sweepMost)
	for sleep(ctx, every) {
		swept, err := s.room.Sweep(ctx, oldest)
		if err != nil && ctx.Err() == nil {
			s.logger.Warn("payloads whose time is over could not all be deleted; trying again", "error", err)
		}
		if swept.Payloads > 0 {
			s.logger.Info("deleted payloads whose time was over", "payloads", swept.Payloads, "bytes", swept.Bytes)
		}
		if err := s.reopen(ctx); err != nil && ctx.Err() == nil {
			s.logger.Warn("cannot use a former store; trying again", "error", err)
		}
		if err := s.forget(ctx); err != nil && ctx.Err() == nil {
			s.logger.Warn("cannot tell whether a former store is empty; trying again", "error", err)
		}
	}
}

// forget closes the stores that were written to before and are empty.
func (s *claimStores) forget(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lock.Lock()
	urls := slices.Clone(s.state.ClaimStores)
	s.lock.Unlock()
	var errs []error
	for _, url := range urls[1:] {
		if err := s.forgetIfEmpty(ctx, url); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", url, err))
		}
	}
	return errors.Join(errs...)
}

func (s *claimStores) forgetIfEmpty(ctx context.Context, url string) error {
	id, err := stores.ID(url)
	if err != nil || s.open[id] == nil {
		return err
	}
	if id != s.current { // else it is the same place, reached in another way
		holds, err := s.room.Holds(ctx, id)
		if err != nil || holds {
			return err
		}
		left := maps.Clone(s.open)
		delete(left, id)
		if err := s.room.Use(left, s.current); err != nil {
			return err
		}
		old := s.open[id]
		s.open = left
		if err := old.Close(); err != nil {
			s.logger.Warn("closing a former store", "store", url, "error", err)
		}
		s.logger.Info("a former store is empty and no longer needed", "store", url)
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	s.state.ClaimStores = slices.DeleteFunc(slices.Clone(s.state.ClaimStores), func(u string) bool { return u == url })
	return s.state.save()
}

func (s *claimStores) close() error {
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
