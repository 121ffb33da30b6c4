package natsbackend

// recentMax bounds a generation of recent, in records.
const recentMax = 4096

// recent remembers what was acked lately. An ack may be lost with a connection,
// or cross a redelivery on its way: the record that comes then is settled
// already, and is acked again rather than handed on.
type recent struct{ young, old map[uint64]struct{} }

func (r *recent) add(sequence uint64) {
	if len(r.young) >= recentMax {
		r.turn()
	}
	if r.young == nil {
		r.young = make(map[uint64]struct{})
	}
	r.young[sequence] = struct{}{}
}

func (r *recent) has(sequence uint64) bool {
	if _, ok := r.young[sequence]; ok {
		return true
	}
	_, ok := r.old[sequence]
	return ok
}

// turn forgets the older generation. It is called when the younger one is full
// and at times, so that an idle member keeps nothing.
func (r *recent) turn() { r.young, r.old = nil, r.young }
