package balance

import "sync"

// tier is replicas that are as good as each other, for all that their place
// says: those of our zone, or all. It is not changed once it is made.
type tier struct {
	candidates []candidate
	byID       map[string]*member
	schedule   func() []uint32 // of Weighted; made when it is first needed
	maglev     func() []uint32 // of Maglev, too
	tableSize  int
}

type candidate struct {
	*member
	weight int
}

// newTier makes the tier that follows old.
func newTier(cs []candidate, old *tier) *tier {
	t := &tier{candidates: cs, byID: make(map[string]*member, len(cs))}
	for _, c := range cs {
		t.byID[c.id] = c.member
	}
	t.tableSize = tableSize(len(cs))
	if old != nil {
		// A table of another size maps nearly all keys anew, so it never shrinks.
		t.tableSize = max(t.tableSize, old.tableSize)
	}
	t.schedule = sync.OnceValue(func() []uint32 { return newSchedule(cs) })
	t.maglev = sync.OnceValue(func() []uint32 { return newTable(cs, t.tableSize) })
	return t
}

func (t *tier) find(id string) *member { return t.byID[id] }

// pick returns the member that the policy chooses among those that are allowed,
// or nil.
func (t *tier) pick(p Policy, key string, q *query) *member {
	switch n := len(t.candidates); {
	case n == 0:
		return nil
	case n == 1:
		return t.scan(0, q)
	}
	switch {
	case p == RoundRobin:
		return t.inTurn(nil, q)
	case p == Weighted:
		return t.inTurn(t.schedule(), q)
	case p == Maglev && key != "":
		return t.byKey(key, q)
	}
	return t.leastRequest(q)
}

// scan returns the first allowed member from i on, or nil.
func (t *tier) scan(i int, q *query) *member {
	n := len(t.candidates)
	for k := range n {
		if m := t.candidates[(i+k)%n].member; q.allows(m) {
			return m
		}
	}
	return nil
}

// leastRequest compares two members that are drawn at random and takes the one
// with less to do for its weight. Two are enough to keep the longest queue
// short, and, unlike the least of all, they do not send everyone who has the
// same report to the same replica.
func (t *tier) leastRequest(q *query) *member {
	n := uint64(len(t.candidates))
	r := q.set.b.cfg.Rand()
	i := (r >> 32) * n >> 32
	j := i + 1 + (r&0xffffffff)*(n-1)>>32
	a, b := t.from(i, n, nil, q), t.from(j, n, nil, q)
	if a == b { // one of them was not allowed
		b = t.from(j, n, a, q)
	}
	switch {
	case a == nil:
		return nil
	case b == nil:
		return a.member
	}
	if q.less(b, a) {
		return b.member
	}
	return a.member
}

// from is the first allowed candidate from i on that is not but, or nil.
func (t *tier) from(i, n uint64, but *candidate, q *query) *candidate {
	for k := range n {
		if c := &t.candidates[(i+k)%n]; c != but && q.allows(c.member) {
			return c
		}
	}
	return nil
}

// less tells whether a has less to do than b, with one chain more.
func (q *query) less(a, b *candidate) bool {
	return (a.load(q.now)+1)*float64(b.weight) < (b.load(q.now)+1)*float64(a.weight)
}

// retries is how often another member is drawn by chance when the policy's is
// not allowed, before they are searched. Going to the next one would give it
// the share of two.
const retries = 4

// inTurn takes turns by a schedule, or, if there is none, in order.
func (t *tier) inTurn(schedule []uint32, q *query) *member {
	turn := q.set.turn.Add(1) - 1
	at := func(k uint64) int {
		if schedule == nil {
			return int(k % uint64(len(t.candidates)))
		}
		return int(schedule[k%uint64(len(schedule))])
	}
	for try := range retries {
		m := t.candidates[at(turn)].member
		if q.allows(m) {
			return m
		}
		turn = mix(turn + uint64(try))
	}
	return t.scan(at(turn), q)
}

// byKey looks the key up, and with another hash of it again when its member is
// not allowed.
func (t *tier) byKey(key string, q *query) *member {
	table, h := t.maglev(), hash(key)
	for range retries {
		m := t.candidates[table[h%uint64(len(table))]].member
		if q.allows(m) {
			return m
		}
		h = mix(h)
	}
	return t.scan(int(table[h%uint64(len(table))]), q)
}
