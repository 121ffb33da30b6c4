package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/internal/claims"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
	"github.com/sidestep-dev/sidestep/kube/broker"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// ledgerTimeout bounds a change of the list of payload stores.
const ledgerTimeout = 10 * time.Second

// ledger is the list of payload stores in the state.
type ledger struct{ s *System }

// Stores implements claims.Ledger.
func (l ledger) Stores() []string {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return slices.Clone(l.s.state.ClaimStores)
}

// SetStores implements claims.Ledger.
func (l ledger) SetStores(urls []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), ledgerTimeout)
	defer cancel()
	return l.s.update(ctx, func(state *broker.State) {
		state.ClaimStores = urls
		maps.DeleteFunc(state.ClaimSecrets, func(url, _ string) bool { return !slices.Contains(urls, url) })
	})
}

// useStore has payloads go to a store.
func (s *System) useStore(ctx context.Context, url string, c *manifest.ClaimCheck) error {
	if err := s.setSecret(ctx, url, c.Secret); err != nil {
		return err
	}
	if s.stores == nil {
		return s.openStores(ctx, url, c)
	}
	return s.stores.Use(ctx, url)
}

// setSecret notes where the credentials of a store are.
func (s *System) setSecret(ctx context.Context, url, secret string) error {
	if _, err := s.Servers.CompleteClaimStore(ctx, url, secret); err != nil {
		return err
	}
	s.mu.Lock()
	same := s.state.ClaimSecrets[url] == secret
	s.mu.Unlock()
	if same {
		return nil
	}
	return s.update(ctx, func(state *broker.State) {
		if state.ClaimSecrets == nil {
			state.ClaimSecrets = make(map[string]string)
		}
		state.ClaimSecrets[url] = secret
	})
}

// openStores opens the payload stores, and sweeps them from then on.
func (s *System) openStores(ctx context.Context, url string, c *manifest.ClaimCheck) error {
	stores, err := claims.Open(ctx, url, claims.Config{
		Ledger: ledger{s}, Keys: s.Keys, TTL: c.TTL, Dial: s.Servers.Dial, Logger: s.Logger,
		Complete: func(ctx context.Context, url string) (string, error) {
			s.mu.Lock()
			secret := s.state.ClaimSecrets[url]
			s.mu.Unlock()
			return s.Servers.CompleteClaimStore(ctx, url, secret)
		},
		Unused: func(ctx context.Context, id string) (bool, error) {
			storing, err := s.Roll.storing(ctx, id)
			return !storing, err
		},
	})
	if err != nil {
		return err
	}
	s.stores = stores
	s.sweeping.Go(func() { stores.Run(ctx, s.oldest) })
	return nil
}

// oldest is when the oldest record of a namespace was stored that some group has yet to
// settle. It asks the API server itself where the logs are: what is not found where a
// log was would count as settled.
func (s *System) oldest(ctx context.Context, namespace string) (time.Time, error) {
	var all v1alpha1.SidestepChannelList
	if err := s.Client.List(ctx, &all, client.InNamespace(namespace)); err != nil {
		return time.Time{}, fmt.Errorf("list channels of namespace %s: %w", namespace, err)
	}
	var oldest time.Time
	for i := range all.Items {
		c := &all.Items[i]
		if c.Status.Place == nil {
			continue // it has no log
		}
		for _, id := range placeOf(c.Status.Place, false).All() {
			at, err := s.oldestOn(ctx, c, id)
			if err != nil {
				return time.Time{}, err
			}
			if !at.IsZero() && (oldest.IsZero() || at.Before(oldest)) {
				oldest = at
			}
		}
	}
	return oldest, nil
}

// oldestOn is that of one channel, on one of the backends that its log is on.
func (s *System) oldestOn(ctx context.Context, c *v1alpha1.SidestepChannel, id string) (time.Time, error) {
	m := s.pool.Swap.Member(id)
	if m == nil {
		return time.Time{}, fmt.Errorf("backend %s, which channel %s/%s is on, is not open: %w", id, c.Namespace, c.Name, backend.ErrUnavailable)
	}
	var oldest time.Time
	for i := range c.Status.Positions {
		lag, err := m.Lag(ctx, c.Namespace+"/"+c.Name, string(c.Status.Positions[i].Subscriber.UID))
		if isNotFound(err) {
			continue // one that is not made yet, or not any more
		}
		if err != nil {
			return time.Time{}, err
		}
		if !lag.Oldest.IsZero() && (oldest.IsZero() || lag.Oldest.Before(oldest)) {
			oldest = lag.Oldest
		}
	}
	return oldest, nil
}
