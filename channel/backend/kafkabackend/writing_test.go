package kafkabackend

import "testing"

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
