package backendtest

import (
	"fmt"
	"slices"
	"sync"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// keeper checks that the records of one key are delivered in log order to one
// member at a time.
type keeper struct {
	start map[string]int // each key's first record, if not 0

	mu   sync.Mutex
	keys map[string]*keyState
}

type keyState struct {
	owner *orderMember
	got   map[int]bool // by the owner, since it began with this key
	last  int
	acked map[int]bool // by anyone
	ever  map[int]bool // received by anyone
}

func newKeeper() *keeper { return &keeper{keys: make(map[string]*keyState)} }

func (k *keeper) key(name string) *keyState {
	s := k.keys[name]
	if s == nil {
		s = &keyState{got: make(map[int]bool), acked: make(map[int]bool), ever: make(map[int]bool)}
		k.keys[name] = s
	}
	return s
}

// delivered notes that m received d, and returns what is wrong with that.
func (k *keeper) delivered(m *orderMember, d *backend.Delivery) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if m.gone {
		return nil // it died with it
	}
	var n int
	if _, err := fmt.Sscan(idOf(d), &n); err != nil {
		return fmt.Errorf("%s received %q, which nobody published", m.name, idOf(d))
	}
	m.held = append(m.held, d)
	s := k.key(d.Key)
	defer func() { s.got[n], s.ever[n], s.last = true, true, n }()
	if old := s.owner; old != m {
		s.owner, s.got = m, make(map[int]bool)
		if old != nil && !old.gone && slices.ContainsFunc(old.held, func(h *backend.Delivery) bool { return h.Key == d.Key }) {
			return fmt.Errorf("%s received %s of key %s while %s holds others of that key", m.name, idOf(d), d.Key, old.name)
		}
	} else if n <= s.last {
		return fmt.Errorf("%s received %d of key %s after %d", m.name, n, d.Key, s.last)
	}
	for before := k.start[d.Key]; before < n; before++ {
		if !s.acked[before] && !s.got[before] {
			return fmt.Errorf("%s received %d of key %s, but %d is not settled", m.name, n, d.Key, before)
		}
	}
	return nil
}

// acking notes that m is about to ack d; false if it should not, being gone.
func (k *keeper) acking(m *orderMember, d *backend.Delivery) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if m.gone {
		return false
	}
	m.held = slices.DeleteFunc(m.held, func(h *backend.Delivery) bool { return h == d })
	var n int
	if _, err := fmt.Sscan(idOf(d), &n); err == nil {
		k.key(d.Key).acked[n] = true
	}
	return true
}

func (k *keeper) leaving(m *orderMember) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m.gone, m.held = true, nil
}

func (k *keeper) isGone(m *orderMember) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return m.gone
}

func (k *keeper) heldBy(m *orderMember) []*backend.Delivery {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(m.held)
}

// missing are the records below n of each key that were never received.
func (k *keeper) missing(n int) (s []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range orderKeys {
		for i := range n {
			if !k.key(key).ever[i] {
				s = append(s, fmt.Sprint(key, i))
			}
		}
	}
	return s
}
