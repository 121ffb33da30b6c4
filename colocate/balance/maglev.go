package balance

// Sizes of a lookup table: primes, so that every step through a table visits
// all of it. The paper wants a hundred entries for each replica, for shares
// that differ by 1% at most.
const (
	smallTable = 4099
	largeTable = 65537
)

func tableSize(replicas int) int {
	if replicas*100 <= smallTable {
		return smallTable
	}
	return largeTable
}

// newTable makes the lookup table of Maglev ("Maglev: A Fast and Reliable
// Software Network Load Balancer", NSDI 2016, section 3.4): each replica has an
// order of its own of all entries, and they take turns at claiming the next
// free one of theirs. A replica that leaves frees its entries; those of the
// others mostly stay.
func newTable(cs []candidate, size int) []uint32 {
	if len(cs) == 0 {
		return nil
	}
	type order struct{ next, skip int }
	orders := make([]order, len(cs))
	for i, c := range cs {
		h := hash(c.id)
		orders[i] = order{int(h % uint64(size)), int(mix(h)%uint64(size-1)) + 1}
	}
	table, claimed := make([]uint32, size), make([]bool, size)
	for left := size; ; {
		for i := range orders {
			o := &orders[i]
			for claimed[o.next] {
				o.next = (o.next + o.skip) % size
			}
			table[o.next], claimed[o.next] = uint32(i), true
			if left--; left == 0 {
				return table
			}
		}
	}
}

// hash is FNV-1a, mixed: the same in every process, so that all of them give a
// key to the same replica.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the finalizer of SplitMix64.
func mix(h uint64) uint64 {
	h += 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
