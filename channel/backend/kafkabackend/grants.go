package kafkabackend

import (
	"slices"
)

// grantReader reads what the leader of another process gave to a member.
type grantReader struct {
	m       *member
	unit    *unit
	fetcher *fetcher
	waiting []int64 // offsets, in order
	again   map[int64]bool
	looking bool
	stopped bool
	set     wish
}

// wish is what a fetcher was last told.
type wish struct {
	wants  bool
	offset int64
	max    int32
}

// grant adds records for the member to read and hold.
func (m *member) grant(p int32, offsets []int64, again bool) {
	r := m.readers[p]
	if r == nil {
		r = &grantReader{m: m, again: make(map[int64]bool)}
		r.unit = &unit{partition: partition{m.s.log.Topic, p}, take: r.take}
		m.readers[p] = r
	}
	for _, o := range offsets {
		at := place{p, o}
		if m.held[at] != nil {
			continue
		}
		m.held[at] = &hold{m: m, place: at}
		r.waiting = append(r.waiting, o)
		if again {
			r.again[o] = true
		}
	}
	slices.Sort(r.waiting)
	r.update()
}

func (r *grantReader) update() {
	if r.stopped {
		return
	}
	if r.fetcher == nil {
		r.look()
		return
	}
	var w wish
	if len(r.waiting) > 0 {
		w = wish{r.m.bytes == 0 || r.m.bytes < r.m.buffer, r.waiting[0], clampMax(r.m.buffer)}
	}
	if w != r.set {
		r.set = w
		r.fetcher.set(r.unit, w.wants, w.offset, w.max)
	}
}

// look finds the partition's leader.
func (r *grantReader) look() {
	if r.looking {
		return
	}
	r.looking = true
	s, p := r.m.s, r.unit.partition
	s.b.crew.Go(func() {
		b := s.b.locate(p, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return r.stopped
		})
		s.mu.Lock()
		defer s.mu.Unlock()
		r.looking = false
		if b != nil && !r.stopped {
			r.fetcher = b.services().fetcher
			r.unit = &unit{partition: p, take: r.take} // as a cursor does
			r.set = wish{}
			r.update()
		}
	})
}

func (r *grantReader) stop() {
	r.stopped = true
	if r.fetcher != nil {
		r.fetcher.set(r.unit, false, 0, 0)
	}
}

func (r *grantReader) take(f *fetched, offset int64) {
	s := r.m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.stopped || len(r.waiting) == 0 {
		return
	}
	if f.code != 0 {
		if r.fetcher != nil {
			r.fetcher.set(r.unit, false, 0, 0)
		}
		r.fetcher = nil
		s.b.cluster.forget(r.unit.topic)
		if f.start > r.waiting[0] {
			r.expire(f.start)
		}
		r.look()
		return
	}
	if offset != r.waiting[0] {
		return
	}
	b := batchReader{rest: f.records}
	for b.next() {
		var w wireRecord
		for b.record(&w) && len(r.waiting) > 0 {
			r.expire(w.offset)
			if len(r.waiting) > 0 && r.waiting[0] == w.offset && !b.control {
				r.deliver(&w)
			}
		}
		if b.err == nil {
			r.expire(b.last + 1)
		}
	}
	if b.err != nil {
		s.b.config.Logger.Error("kafka: unreadable records", "topic", r.unit.topic, "partition", r.unit.index, "error", b.err)
	}
	r.update()
}

// expire acks what is not there any more, before an offset.
func (r *grantReader) expire(before int64) {
	for len(r.waiting) > 0 && r.waiting[0] < before {
		p := place{r.unit.index, r.waiting[0]}
		r.waiting = r.waiting[1:]
		delete(r.again, p.offset)
		if r.m.held[p] != nil {
			delete(r.m.held, p)
			r.m.s.ack(r.m, p)
		}
	}
}

func (r *grantReader) deliver(w *wireRecord) {
	p := place{r.unit.index, w.offset}
	r.waiting = r.waiting[1:]
	again := r.again[w.offset]
	delete(r.again, w.offset)
	if h := r.m.held[p]; h != nil {
		h.delivery = newDelivery(r.m.s.log, p, w)
		h.delivery.Redelivered = again
		h.delivery.Token = h
		h.size = h.delivery.Size() + sizeOverhead
		r.m.push(h)
	}
}

func clampMax(n int) int32 { return int32(min(max(n, 1), 1<<20)) }
