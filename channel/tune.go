package channel

import (
	"cmp"
	"fmt"
	"time"
)

// Tuning is what of a Dispatcher may be changed while it runs. What is 0 is what it is
// by default.
type Tuning struct {
	// ByteBudget is the size of Config.Budget.
	ByteBudget int64
	// CheckpointAfter is Config's.
	CheckpointAfter time.Duration
	// Threshold, MaxEventBytes and LinkTTL are ClaimsConfig's; without Claims they
	// mean nothing.
	Threshold     int
	MaxEventBytes int64
	LinkTTL       time.Duration
}

// Tune has a Dispatcher go by t from now on: events that come, and the next step of each
// chain. An error changes nothing.
func (d *Dispatcher) Tune(t Tuning) error {
	if d.Claims != nil {
		if err := fits(cmp.Or(t.Threshold, DefaultThreshold), d.limit); err != nil {
			return err
		}
		if err := d.Claims.SetLimits(t.Threshold, t.MaxEventBytes, t.LinkTTL); err != nil {
			return err
		}
	}
	d.Budget.SetTotal(cmp.Or(t.ByteBudget, DefaultBudget))
	d.checkpointAfter.Store(int64(cmp.Or(t.CheckpointAfter, DefaultCheckpointAfter)))
	return nil
}

// fits tells whether a record may hold as much data as is not stored elsewhere.
func fits(threshold, record int) error {
	if most := record - MaxAttributeBytes; threshold > most {
		return fmt.Errorf("claim check: the threshold is %d bytes, but the backend takes %d at most beside an event's attributes",
			threshold, most)
	}
	return nil
}
