package event_test

import (
	"slices"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/event"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func traveling(headers ...string) *event.Event {
	e := &event.Event{SpecVersion: "1.0", ID: "1", Source: "s", Type: "t"}
	for i := 0; i < len(headers); i += 2 {
		e.Transport = append(e.Transport, event.Attribute{Name: headers[i], Value: headers[i+1]})
	}
	return e
}

func TestTheTraceContextOfAnEvent(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		value string
		want  bool
	}{
		"as the specification has it":         {parent, true},
		"not sampled":                         {parent[:54] + "0", true},
		"a later version with more":           {"01" + parent[2:] + "-more", true},
		"a later version as long as this one": {"01" + parent[2:], true},
		"a later version, more without a -":   {"01" + parent[2:] + "more", false},
		"more than version 0 has":             {parent + "-more", false},
		"version ff":                          {"ff" + parent[2:], false},
		"no trace":                            {"00-00000000000000000000000000000000-b7ad6b7169203331-01", false},
		"no span":                             {"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false},
		"upper case":                          {"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false},
		"no digits":                           {"00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01", false},
		"too short":                           {parent[:54], false},
		"empty":                               {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := traveling("traceparent", tt.value).Trace()
			if ok != tt.want {
				t.Fatalf("%q is read: %v, want %v", tt.value, ok, tt.want)
			}
			if ok && got.String() != "00"+tt.value[2:55] {
				t.Errorf("%q became %s", tt.value, got)
			}
		})
	}
}

func TestTheHeaderGoesBeforeTheExtension(t *testing.T) {
	t.Parallel()
	e := traveling()
	e.Attributes = []event.Attribute{{Name: "traceparent", Value: parent}}
	if got, ok := e.Trace(); !ok || got.String() != parent {
		t.Errorf("the extension for distributed tracing is read as %s, %v", got, ok)
	}
	other := parent[:52] + "-00"
	e.Transport = []event.Attribute{{Name: "traceparent", Value: other}}
	if got, _ := e.Trace(); got.String() != other {
		t.Errorf("got %s, want the header's %s", got, other)
	}
}

func TestAnEventWithATraceIsACopy(t *testing.T) {
	t.Parallel()
	e := traveling("baggage", "a=1", "traceparent", parent)
	trace, _ := e.Trace()
	next := e.WithTrace(trace.Next())
	if got, ok := next.Trace(); !ok || got != trace.Next() || got.TraceID != trace.TraceID || !got.Sampled() {
		t.Errorf("the copy travels with %s, %v", got, ok)
	}
	if got, _ := e.Trace(); got != trace {
		t.Errorf("the event itself has %s now", got)
	}
	if len(next.Transport) != 2 || next.Transport[1] != (event.Attribute{Name: "baggage", Value: "a=1"}) {
		t.Errorf("the copy travels with %v", next.Transport)
	}
}

// Two hops of a trace with one ID would be one to whoever reads it.
func TestTheHopsInAPodHaveIDsOfTheirOwn(t *testing.T) {
	t.Parallel()
	trace, _ := traveling("traceparent", parent).Trace()
	seen := map[[8]byte]bool{}
	for range 1000 {
		if seen[trace.SpanID] || trace.SpanID == [8]byte{} {
			t.Fatalf("%s is there twice, or is none", trace)
		}
		seen[trace.SpanID] = true
		trace = trace.Next()
	}
	if got := (event.Trace{SpanID: [8]byte{7: 1}}).Next().SpanID; got != [8]byte{0x91, 0x0a, 0x2d, 0xec, 0x89, 0x02, 0x5c, 0xc1} {
		t.Errorf("another version would work out another ID than %x", got)
	}
}

func TestAnAnswerContinuesTheTrace(t *testing.T) {
	t.Parallel()
	from := traveling("x-request-id", "r", "traceparent", parent, "tracestate", "v=1", "baggage", "a=1")
	for name, tt := range map[string]struct{ answer, want []string }{
		"that says nothing": {nil, []string{"traceparent=" + parent, "tracestate=v=1", "baggage=a=1"}},
		"that has a trace":  {[]string{"traceparent", "other"}, []string{"traceparent=other"}},
		"that has baggage":  {[]string{"baggage", "b=2"}, []string{"baggage=b=2", "traceparent=" + parent, "tracestate=v=1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := traveling(tt.answer...)
			e.Continue(from)
			var got []string
			for _, a := range e.Transport {
				got = append(got, a.Name+"="+a.Value)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("travels with %q, want %q", got, tt.want)
			}
		})
	}
}
