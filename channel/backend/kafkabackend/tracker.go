package kafkabackend

// state of one record for one group.
type state uint8

const (
	waiting state = iota // to be delivered
	again                // to be delivered; some member may have had it
	held                 // with a member
	settled              // acked, or there is no such record
)

// tracker knows the state of the records of a partition, from the first one that
// is not settled on. All before base are settled, all after what it knows wait.
type tracker struct {
	base   int64
	states []state // of base, base+1, ...
	begin  int     // where base is in states
	done   int     // settled ones among states
}

// end is the first offset of which nothing is known.
func (t *tracker) end() int64 { return t.base + int64(len(t.states)-t.begin) }

func (t *tracker) of(offset int64) state {
	switch {
	case offset < t.base:
		return settled
	case offset >= t.end():
		return waiting
	}
	return t.states[t.begin+int(offset-t.base)]
}

// set notes a record's state and reports whether it is another one.
func (t *tracker) set(offset int64, s state) bool {
	old := t.of(offset)
	if old == s || old == settled {
		return false
	}
	for t.end() <= offset {
		t.states = append(t.states, waiting)
	}
	t.states[t.begin+int(offset-t.base)] = s
	if s == settled {
		t.done++
		t.advance()
	}
	return true
}

func (t *tracker) advance() {
	for t.begin < len(t.states) && t.states[t.begin] == settled {
		t.begin++
		t.base++
		t.done--
	}
	if t.begin > 64 && t.begin > len(t.states)/2 {
		t.states = t.states[:copy(t.states, t.states[t.begin:])]
		t.begin = 0
	}
}

// skip settles all before an offset and reports how many were not.
func (t *tracker) skip(to int64) (n int64) {
	if to <= t.base {
		return 0
	}
	n = to - t.base
	if to >= t.end() {
		n -= int64(t.done)
		*t = tracker{base: to, states: t.states[:0]}
		return n
	}
	for range to - t.base {
		if t.states[t.begin] == settled {
			t.done--
			n--
		}
		t.begin++
	}
	t.base = to
	t.advance()
	return n
}

// position is what is known to be settled.
func (t *tracker) position() position {
	p := position{prefix: t.base}
	if t.done == 0 {
		return p
	}
	for i, s := range t.states[t.begin:] {
		if s == settled {
			p.acked = append(p.acked, t.base+int64(i))
		}
	}
	return p
}
