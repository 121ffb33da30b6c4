package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/event"
)

// Service is what dispatchers call themselves in their spans, unless
// OTEL_SERVICE_NAME says otherwise.
const Service = "sidestep-dispatcher"

// scope names what made the spans.
const scope = "github.com/sidestep-dev/sidestep"

// Tracer implements channel.Tracer. A nil one makes no spans.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	// follows: what a trace's beginning has decided is never asked again.
	follows bool
}

// Open makes the Tracer that c describes, nil if that makes no spans. service names
// this process. It does not wait for a collector: spans that none takes are dropped,
// and logged.
func Open(ctx context.Context, c Config, service string, logger *slog.Logger) (*Tracer, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configure tracing: %w", err)
	}
	exporter, err := c.exporter(ctx)
	if exporter == nil || err != nil {
		return nil, err
	}
	res, err := describe(ctx, service)
	if err != nil {
		return nil, fmt.Errorf("configure tracing: %w", err)
	}
	// The SDK has no other way to tell what becomes of its batches.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		logger.Warn("spans were lost", "error", err)
	}))
	options := []sdk.TracerProviderOption{sdk.WithBatcher(exporter), sdk.WithResource(res)}
	if !c.sampler {
		options = append(options, sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(c.SamplingRate))))
	}
	logger.Info("tracing", "protocol", c.Protocol, "endpoint", c.Endpoint, "sampling-rate", c.SamplingRate)
	t := newTracer(options...)
	t.follows = !c.sampler
	return t, nil
}

func newTracer(options ...sdk.TracerProviderOption) *Tracer {
	p := sdk.NewTracerProvider(append(options, sdk.WithIDGenerator(ids{}))...)
	return &Tracer{provider: p, tracer: p.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))}
}

// exporter is nil if there is none.
func (c *Config) exporter(ctx context.Context) (e sdk.SpanExporter, err error) {
	if c.SamplingRate <= 0 && !c.sampler {
		return nil, nil //nolint:nilnil // none
	}
	switch c.Protocol {
	case GRPC:
		var o []otlptracegrpc.Option
		if !c.endpoint {
			o = append(o, otlptracegrpc.WithEndpointURL(c.Endpoint))
		}
		e, err = otlptracegrpc.New(ctx, o...)
	case HTTP:
		var o []otlptracehttp.Option
		if !c.endpoint {
			o = append(o, otlptracehttp.WithEndpointURL(c.Endpoint))
		}
		e, err = otlptracehttp.New(ctx, o...)
	case Stdout:
		e, err = stdouttrace.New()
	default:
		return nil, nil //nolint:nilnil // none
	}
	if err != nil {
		return nil, fmt.Errorf("make exporter of spans: %w", err)
	}
	return e, nil
}

// describe is this process, as OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES change
// it.
func describe(ctx context.Context, service string) (*resource.Resource, error) {
	version := "(devel)"
	if b, ok := debug.ReadBuildInfo(); ok {
		version = b.Main.Version
	}
	return resource.New(ctx,
		resource.WithTelemetrySDK(), resource.WithHost(), resource.WithProcessPID(),
		resource.WithAttributes(semconv.ServiceName(service), semconv.ServiceVersion(version)),
		resource.WithFromEnv(),
	)
}

// Engine is t as the engine wants it.
func (t *Tracer) Engine() channel.Tracer {
	if t == nil {
		return nil // and not an interface that holds nil
	}
	return t
}

// Shutdown sends what has ended, until ctx ends.
func (t *Tracer) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last spans: %w", err)
	}
	return nil
}

// Begin implements channel.Tracer.
func (t *Tracer) Begin(h *channel.Hop) (*event.Event, channel.Span) {
	parent, known := h.Event.Trace()
	if known && t.follows && !parent.Sampled() {
		return h.Event, nil
	}
	ctx := context.Background() // the trace is the event's, and not a caller's
	if known {
		ctx = trace.ContextWithRemoteSpanContext(ctx, contextOf(parent))
	}
	s := t.start(ctx, h)
	own := traceOf(s.SpanContext())
	switch {
	case s.IsRecording():
		return h.Event.WithTrace(own), &span{s, t}
	case known && !parent.Sampled():
		return h.Event, nil // it says so already
	}
	return h.Event.WithTrace(own), nil // whoever comes later must not begin one either
}

func (t *Tracer) start(ctx context.Context, h *channel.Hop) trace.Span {
	kind := trace.SpanKindClient
	if h.Stores {
		kind = trace.SpanKindProducer
	}
	_, s := t.tracer.Start(ctx, name(h), trace.WithTimestamp(h.Start), trace.WithSpanKind(kind))
	return s
}

// span implements channel.Span.
type span struct {
	trace.Span
	of *Tracer
}

// Then implements channel.Span.
func (s *span) Then(h *channel.Hop) channel.Span {
	parent := s.SpanContext()
	ctx := trace.ContextWithSpanContext(context.Background(), parent) // as in Begin
	ctx = context.WithValue(ctx, chosenID{}, trace.SpanID(traceOf(parent).Next().SpanID))
	return &span{s.of.start(ctx, h), s.of}
}

// End implements channel.Span.
func (s *span) End(h *channel.Hop) {
	describeHop(s.Span, h)
	s.Span.End(trace.WithTimestamp(h.Start.Add(h.Took)))
}

func contextOf(t event.Trace) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: t.TraceID, SpanID: t.SpanID, TraceFlags: trace.TraceFlags(t.Flags), Remote: true,
	})
}

func traceOf(c trace.SpanContext) event.Trace {
	return event.Trace{TraceID: c.TraceID(), SpanID: c.SpanID(), Flags: byte(c.TraceFlags())}
}
