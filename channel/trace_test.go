package channel

import (
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// Who does not trace must not pay for those who do.
func TestWithoutATracerAHopAllocatesNothing(t *testing.T) {
	d := &Dispatcher{Config: Config{Observer: noObserver{}}}
	e := &event.Event{SpecVersion: "1.0", ID: "1", Source: "s", Type: "t"}
	task := new(task)
	if n := testing.AllocsPerRun(100, func() {
		h := &task.hop
		*h = Hop{Leg: ToStep, Event: e, Start: time.Now()}
		span := d.begin(h)
		if h.Event != e || span != nil {
			t.Fatal("something was traced")
		}
		d.end(h, span)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
