package storetest

import (
	"testing"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// Harness makes the stores that Run tests. Only Open is required.
type Harness struct {
	// Open makes an empty store. The suite closes it.
	Open func(t *testing.T) claimcheck.Store
	// Down makes a store that cannot be reached.
	Down func(t *testing.T) claimcheck.Store
	// Interrupt leaves in a store of Open's what a Put of name leaves behind whose
	// process is killed.
	Interrupt func(t *testing.T, s claimcheck.Store, name string)
	// InMemory: the objects themselves are on the heap.
	InMemory bool
}

// Run tests a kind of store.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"bytes come back as they were", bytesComeBack},
		{"any range can be read", anyRange},
		{"an object is replaced in one step", replaced},
		{"a missing object is ErrNotFound", missing},
		{"names that are none are refused", badNames},
		{"a failing reader leaves nothing", failingReader},
		{"a context that ends leaves nothing", cancelledPut},
		{"an object is not there before it is complete", invisible},
		{"delete is idempotent", deleteTwice},
		{"list is complete", listAll},
		{"list can be left early", listBreak},
		{"list ends with its context", listCancelled},
		{"puts and reads at once do not disturb each other", concurrent},
		{"a reader closed early does no harm", closeEarly},
		{"memory does not grow with the object", constantMemory},
		{"what cannot be reached is ErrUnavailable", unavailable},
		{"what a killed put left is found and deleted", interrupted},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, h) })
	}
}

// open makes a store that is closed with the test.
func (h Harness) open(t *testing.T) claimcheck.Store {
	t.Helper()
	s := h.Open(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}
