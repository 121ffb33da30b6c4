package standalone

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

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
		err = errors.Join(p.useBackends(ctx, set), p.useStore(ctx, set), p.reload(ctx, set))
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
	if keys := set.Config.NeedRestart(&p.set.Config); len(keys) > 0 {
		p.Logger.Warn("what was changed is applied with a restart, and not before", "changed", strings.Join(keys, ", "))
	}
}

// useBackends has logs move to the backends that the files name.
func (p *process) useBackends(ctx context.Context, set *manifest.Set) error {
	if err := p.brokers.use(ctx, &set.Config); err != nil {
		return fmt.Errorf("all channels stay on the backends that they are on, until this one can be used: %w", err)
	}
	return nil
}

// useStore has payloads go to the store that the files name from now on.
func (p *process) useStore(ctx context.Context, set *manifest.Set) error {
	url, err := p.claimURL(set.Config.ClaimCheck.Store)
	if err == nil {
		err = p.claims.Use(ctx, url)
	}
	if err != nil {
		return fmt.Errorf("claim-check: payloads go on to the store that they went to before: %w", err)
	}
	return nil
}

// reload applies a set.
func (p *process) reload(ctx context.Context, set *manifest.Set) error {
	if err := p.checkPods(set); err != nil {
		return err
	}
	if err := p.replica.Dispatcher.Tune(set.Config.Tuning()); err != nil {
		return err
	}
	err := p.lifecycle.apply(ctx, set.Config.Dispatch.DrainOnDelete,
		func(uid func(kind, namespace, name string) string) (table *channel.Table, err error) {
			table, p.addresses, err = set.Table(manifest.TableOptions{
				BaseURL: p.base(),
				UID:     uid,
			})
			return table, err
		})
	if err != nil {
		return err
	}
	return p.usePods(set)
}

// announce prints the addresses that are new.
func (p *process) announce() error {
	fresh := slices.DeleteFunc(slices.Clone(p.addresses), func(a manifest.Address) bool {
		return slices.Contains(p.printed, a)
	})
	p.printed = p.addresses
	return printAddresses(p.Stdout, fresh, p.JSON)
}
