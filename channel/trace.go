package channel

import "github.com/sidestep-dev/sidestep/channel/event"

// Tracer follows events on their way. It is called on the hot path from many
// goroutines at once, and must not block. Where there is none, the engine does
// nothing for it.
type Tracer interface {
	// Begin begins a hop, of which all is known but what will come of it. It
	// returns the event as it is to travel, with that hop as its trace context,
	// and the Span: nil if the trace is not recorded. h is the caller's, and not
	// kept.
	Begin(h *Hop) (*event.Event, Span)
}

// Span is a hop under way.
type Span interface {
	// Then is the hop that followed in the same pod: its context is Trace.Next of
	// this one's.
	Then(h *Hop) Span
	// End tells what became of the hop. It is called once, and last.
	End(h *Hop)
}

// begin begins h.
func (d *Dispatcher) begin(h *Hop) (s Span) {
	if d.Tracer != nil {
		h.Event, s = d.Tracer.Begin(h)
	}
	return s
}

// end tells what became of h.
func (d *Dispatcher) end(h *Hop, s Span) {
	d.Observer.Hop(h)
	if s != nil {
		s.End(h)
	}
}
