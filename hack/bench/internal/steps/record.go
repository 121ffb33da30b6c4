package steps

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/workload"
)

// Recorded is how many events' times are noted: those with ids below it.
const Recorded = 8192

// MaxEvents bounds ids: arrivals at the last step are counted once for each.
const MaxEvents = 1 << 22

// visit is one event at one step, in nanoseconds since the process started; 0
// is never.
type visit struct{ arrived, answered atomic.Int64 }

// record keeps what happened. Its methods may be called from any goroutine.
type record struct {
	epoch  time.Time
	visits [][workload.Steps]visit
	seen   []atomic.Uint64 // a bit for each id that reached the last step

	unexpected, repeated atomic.Int64
}

func newRecord() *record {
	return &record{
		epoch:  time.Now(),
		visits: make([][workload.Steps]visit, Recorded),
		seen:   make([]atomic.Uint64, MaxEvents/64),
	}
}

func (r *record) now() int64 { return int64(time.Since(r.epoch)) }

func (r *record) arrived(id uint32, step int, at int64) {
	if id < Recorded {
		r.visits[id][step-1].arrived.CompareAndSwap(0, at)
	}
}

func (r *record) answered(id uint32, step int) {
	if id < Recorded {
		r.visits[id][step-1].answered.CompareAndSwap(0, r.now())
	}
}

// first tells whether the event had not reached the last step before.
func (r *record) first(id uint32) bool {
	bit := uint64(1) << (id % 64)
	if r.seen[id/64].Or(bit)&bit != 0 {
		r.repeated.Add(1)
		return false
	}
	return true
}

// write sends the times of the events 0 … n-1: for each and for each of its
// steps the arrival and the answer, as little-endian 64-bit numbers.
func (r *record) write(w io.Writer, n int) error {
	buf := make([]byte, 0, n*workload.Steps*16)
	for id := range n {
		for step := range workload.Steps {
			v := &r.visits[id][step]
			buf = binary.LittleEndian.AppendUint64(buf, uint64(v.arrived.Load()))
			buf = binary.LittleEndian.AppendUint64(buf, uint64(v.answered.Load()))
		}
	}
	_, err := w.Write(buf)
	return err
}

// Hops computes from what write sent how long each hop took, in microseconds:
// from a step's answer to the next step's request.
func Hops(times []byte) ([]float64, error) {
	const event = workload.Steps * 16
	if len(times)%event != 0 {
		return nil, fmt.Errorf("times of %d bytes are not a multiple of %d", len(times), event)
	}
	var hops []float64
	for ; len(times) > 0; times = times[event:] {
		for step := 1; step < workload.Steps; step++ {
			answered := int64(binary.LittleEndian.Uint64(times[(step-1)*16+8:]))
			arrived := int64(binary.LittleEndian.Uint64(times[step*16:]))
			if answered == 0 || arrived == 0 {
				return nil, fmt.Errorf("an event did not reach step %d", step+1)
			}
			hops = append(hops, float64(arrived-answered)/1e3)
		}
	}
	return hops, nil
}
