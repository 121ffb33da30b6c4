package standalone

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// Values of the label result of sidestep_reloads_total.
const (
	reloadApplied = "applied"
	reloadFailed  = "failed"
)

// changed reads the files again. What is wrong with them changes nothing.
func (p *process) changed(ctx context.Context) {
	set, err := manifest.Load(p.Paths)
	if err == nil {
		p.warnRestart(set)
		err = errors.Join(p.useStore(ctx, set), p.reload(ctx, set))
	}
	if err == nil {
		err = p.announce()
	}
	if err != nil {
		p.reloads.WithLabelValues(reloadFailed).Inc()
		p.Logger.Error("the files were changed, but not applied; going on as before", "error", err)
		return
	}
	p.reloads.WithLabelValues(reloadApplied).Inc()
	p.Logger.Info("applied the changed files", "content", set.String())
}

// warnRestart names what was edited that only a restart applies.
func (p *process) warnRestart(set *manifest.Set) {
	was, is := p.set.Config, set.Config
	was.Dispatch.ShortCircuit, is.Dispatch.ShortCircuit = 0, 0
	was.Dispatch.DrainOnDelete, is.Dispatch.DrainOnDelete = 0, 0
	was.ClaimCheck.Store, is.ClaimCheck.Store = "", ""
	if was != is {
		p.Logger.Warn("config-sidestep was changed in keys other than claim-check.store, dispatch.shortCircuit and " +
			"dispatch.drainOnDelete: restart to apply them")
	}
}

// useStore has payloads go to the store that the files name from now on.
func (p *process) useStore(ctx context.Context, set *manifest.Set) error {
	url, err := p.claimURL(set.Config.ClaimCheck.Store)
	if err == nil {
		err = p.claims.use(ctx, url)
	}
	if err != nil {
		return fmt.Errorf("claim-check: payloads go on to the store that they went to before: %w", err)
	}
	return nil
}

// reload applies a set.
func (p *process) reload(ctx context.Context, set *manifest.Set) error {
	return p.lifecycle.apply(ctx, set.Config.Dispatch.DrainOnDelete,
		func(uid func(kind, namespace, name string) string) (table *channel.Table, err error) {
			table, p.addresses, err = set.Table(manifest.TableOptions{
				BaseURL: "http://" + p.listener.Addr().String(),
				UID:     uid,
			})
			return table, err
		})
}

// announce prints the addresses that are new.
func (p *process) announce() error {
	fresh := slices.DeleteFunc(slices.Clone(p.addresses), func(a manifest.Address) bool {
		return slices.Contains(p.printed, a)
	})
	p.printed = p.addresses
	return printAddresses(p.Stdout, fresh, p.JSON)
}
