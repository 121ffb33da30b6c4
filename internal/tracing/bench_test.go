package tracing

import (
	"context"
	"net/http"
	"testing"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
)

// BenchmarkHop is what one hop costs beside the attempt itself, once there is a
// Tracer.
func BenchmarkHop(b *testing.B) {
	for name, sampler := range map[string]sdk.Sampler{"recorded": sdk.AlwaysSample(), "not recorded": sdk.ParentBased(sdk.NeverSample())} {
		b.Run(name, func(b *testing.B) {
			tracer := newTracer(sdk.WithBatcher(tracetest.NewNoopExporter()), sdk.WithSampler(sampler))
			tracer.follows = name == "not recorded"
			defer tracer.Shutdown(context.Background()) //nolint:errcheck // nothing is kept
			e := &event.Event{
				SpecVersion: "1.0", ID: "1", Source: "s", Type: "t",
				Transport: []event.Attribute{{Name: "traceparent", Value: ignored}},
			}
			sub := &channel.Subscription{Namespace: "ns", Name: "a"}
			c := &channel.Channel{Namespace: "ns", Name: "c"}
			h := new(channel.Hop)
			b.ReportAllocs()
			for b.Loop() {
				*h = channel.Hop{
					Leg: channel.ToStep, Channel: c, Subscription: sub, Event: e, Dest: "http://a.ns.svc.cluster.local", Attempt: 1, Start: time.Now(),
				}
				var s channel.Span
				h.Event, s = tracer.Begin(h)
				if s != nil {
					h.Result = &egress.Result{Status: http.StatusOK}
					s.End(h)
				}
			}
		})
	}
}
