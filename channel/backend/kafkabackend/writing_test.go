package kafkabackend

import (
	"fmt"
	"sync"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

func TestChangesOfTheCatalogShareBatchesOfBoundedSize(t *testing.T) {
	t.Parallel()
	of := func(size int) *writing { return &writing{keys: [][]byte{{}}, value: make([]byte, size-sizeOverhead)} }
	for _, tt := range []struct {
		name  string
		sizes []int
		want  int
	}{
		{"one", []int{1000}, 1},
		{"as many as fit", []int{maxWritten / 2, maxWritten / 2, 100}, 2},
		{"one that is too large goes alone", []int{2 * maxWritten, 100}, 1},
		{"and has none with it", []int{100, 2 * maxWritten}, 1},
	} {
		var all []*writing
		for _, n := range tt.sizes {
			all = append(all, of(n))
		}
		if got := fitting(all); got != tt.want {
			t.Errorf("%s: %d together, want %d", tt.name, got, tt.want)
		}
	}
}

// Processes that start together want the same logs: all get the same ones, and few
// claims are written for nothing.
func TestProcessesThatStartTogetherMakeTheSameLogs(t *testing.T) {
	t.Parallel()
	const processes, logs = 3, 100
	c := Config{Brokers: []string{sharedBroker(t).Address}, Prefix: newPrefix()}
	var all [processes]*Backend
	for i := range all {
		all[i] = connectTo(t, c)
	}
	var mu sync.Mutex
	made := make(map[string]map[backend.Incarnation]bool)
	var working sync.WaitGroup
	for _, b := range all {
		for i := range logs {
			working.Go(func() {
				name := fmt.Sprint("together/", i)
				got, err := b.EnsureLog(ctxOf(t), backend.Log{Name: name})
				if err == nil {
					err = b.EnsureGroup(ctxOf(t), name, backend.Group{Name: "g"})
				}
				if err != nil {
					t.Errorf("log %s: %v", name, err)
				}
				mu.Lock()
				defer mu.Unlock()
				if made[name] == nil {
					made[name] = make(map[backend.Incarnation]bool)
				}
				made[name][got] = true
			})
		}
	}
	working.Wait()
	for name, incarnations := range made {
		if len(incarnations) != 1 {
			t.Errorf("log %s has %d incarnations, want 1", name, len(incarnations))
		}
	}
}

func TestAClaimThatIsTakenIsNotWritten(t *testing.T) {
	t.Parallel()
	b := connectTo(t, Config{Brokers: []string{sharedBroker(t).Address}, Prefix: newPrefix()})
	must(t, b.catalog.tail.sync(ctxOf(t)))
	b.catalog.tail.mu.Lock()
	before := b.catalog.tail.next
	b.catalog.tail.mu.Unlock()
	for _, taken := range []bool{true, false} {
		written, err := b.catalog.claim(ctxOf(t), []byte("key"), "value", func() bool { return taken })
		must(t, err)
		if written == taken {
			t.Errorf("taken %t: written %t", taken, written)
		}
	}
	b.catalog.tail.mu.Lock()
	defer b.catalog.tail.mu.Unlock()
	if n := b.catalog.tail.next - before; n != 1 {
		t.Errorf("%d records were written, want 1", n)
	}
}
