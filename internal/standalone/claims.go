package standalone

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/internal/claims"
	"github.com/sidestep-dev/sidestep/internal/telemetry"
)

// claimFolder is where payloads are kept unless the files say otherwise, under --data.
const claimFolder = "claims"

// claimLedger is the list of stores in the state file.
type claimLedger struct {
	state *state
	lock  sync.Locker // of state
}

// Stores implements claims.Ledger.
func (l claimLedger) Stores() []string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return slices.Clone(l.state.ClaimStores)
}

// SetStores implements claims.Ledger.
func (l claimLedger) SetStores(urls []string) error {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.state.ClaimStores = urls
	return l.state.save()
}

// openClaims opens the stores and makes what keeps payloads in them.
func (p *process) openClaims(ctx context.Context, undo *closers) (*channel.Claims, error) {
	c := p.set.Config.ClaimCheck
	keys, err := claimcheck.NewKeys(p.state.key())
	if err != nil {
		return nil, err
	}
	url, err := p.claimURL(c.Store)
	if err != nil {
		return nil, err
	}
	p.claims, err = claims.Open(ctx, url, claims.Config{
		Ledger: claimLedger{p.state, &p.lifecycle.mu}, Keys: keys, TTL: c.TTL, Observer: telemetry.NewClaims(p.replica.Registry),
		Dial: func() (*nats.Conn, error) { return p.brokers.dial("sidestep claims") }, Logger: p.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("claim-check: %w", err)
	}
	undo.add(p.claims.Close)
	return channel.NewClaims(channel.ClaimsConfig{
		Room: p.claims.Room(), Threshold: int(c.Threshold), MaxEventBytes: c.MaxEventBytes,
		LinkBase: p.base(), LinkTTL: c.LinkTTL,
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
