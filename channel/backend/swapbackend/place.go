package swapbackend

import (
	"fmt"
	"slices"
)

// Place is where the records of one log are: names of members.
type Place struct {
	// Home takes new records.
	Home string `json:"home"`
	// Next takes them as soon as Home is sealed; "" unless the log is to move.
	Next string `json:"next,omitempty"`
	// Former hold records that have yet to be settled, the oldest first.
	Former []string `json:"former,omitempty"`
	// Ordered logs are read from one place after the other.
	Ordered bool `json:"ordered,omitempty"`

	named bool // by Set, rather than the home of a log by default
}

// All are the members that may have records, the oldest first.
func (p Place) All() []string {
	all := append(slices.Clone(p.Former), p.Home)
	if p.Next != "" {
		all = append(all, p.Next)
	}
	return all
}

// read are the members that records are received from now.
func (p Place) read() []string {
	if p.Ordered {
		return p.All()[:1]
	}
	return p.All()
}

// Moving tells whether a move is under way.
func (p Place) Moving() bool { return p.Next != "" || len(p.Former) > 0 }

// Equal tells whether both are the same.
func (p Place) Equal(q Place) bool {
	return p.Home == q.Home && p.Next == q.Next && p.Ordered == q.Ordered && slices.Equal(p.Former, q.Former)
}

// check refuses a place that names a member twice, or one that is not known.
func (p Place) check(known func(string) bool) error {
	seen := map[string]bool{}
	for _, name := range p.All() {
		if !known(name) {
			return fmt.Errorf("there is no backend %q", name)
		}
		if seen[name] {
			return fmt.Errorf("backend %q is named twice", name)
		}
		seen[name] = true
	}
	return nil
}
