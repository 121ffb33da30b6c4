package tracing

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
)

func TestConfigurationsThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"no endpoint":         {Protocol: GRPC},
		"an endpoint of none": {Endpoint: "http://collector:4317"},
		"unknown protocol":    {Protocol: "zipkin", Endpoint: "http://collector"},
		"rate above 1":        {Protocol: Stdout, SamplingRate: 1.5},
		"rate below 0":        {Protocol: Stdout, SamplingRate: -1},
	} {
		if tracer, err := Open(t.Context(), c, "test", slog.New(slog.DiscardHandler)); err == nil || tracer != nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTheEnvironmentChoosesAnExporter(t *testing.T) {
	t.Parallel()
	given := Config{Protocol: GRPC, Endpoint: "http://collector:4317", SamplingRate: 0.5}
	for name, tt := range map[string]struct {
		config   Config
		env      map[string]string
		protocol string
		rate     float64
	}{
		"nothing":                   {Config{}, nil, "", 0},
		"a ConfigMap alone":         {given, nil, GRPC, 0.5},
		"an endpoint":               {Config{}, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, HTTP, 1},
		"one for traces, over gRPC": {Config{}, map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, GRPC, 1},
		"an exporter alone":         {Config{}, map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, HTTP, 1},
		"the console":               {Config{}, map[string]string{"OTEL_TRACES_EXPORTER": "console"}, Stdout, 1},
		"none":                      {given, map[string]string{"OTEL_TRACES_EXPORTER": "none"}, "", 0},
		"disabled":                  {given, map[string]string{"OTEL_SDK_DISABLED": "true"}, "", 0},
		"both":                      {given, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, GRPC, 0.5},
	} {
		c := tt.config.WithEnvironment(func(name string) string { return tt.env[name] })
		if c.Protocol != tt.protocol || c.SamplingRate != tt.rate {
			t.Errorf("%s: protocol %q, rate %v, want %q, %v", name, c.Protocol, c.SamplingRate, tt.protocol, tt.rate)
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWithoutAnExporterThereIsNoTracer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"zero": {}, "none": {Protocol: None}, "nothing to record": {Protocol: HTTP, Endpoint: "http://collector:4318"},
	} {
		tracer, err := Open(t.Context(), c, "test", slog.New(slog.DiscardHandler))
		if err != nil || tracer != nil || tracer.Engine() != nil {
			t.Errorf("%s: %v, %v, engine %v", name, tracer, err, tracer.Engine())
		}
		if err := tracer.Shutdown(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSpansArriveAtACollector(t *testing.T) {
	t.Parallel()
	var posts atomic.Int64
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/traces" && r.Header.Get("Content-Type") == "application/x-protobuf" {
			posts.Add(1)
		}
	}))
	defer collector.Close()
	tracer, err := Open(t.Context(), Config{Protocol: HTTP, Endpoint: collector.URL + "/v1/traces", SamplingRate: 1}, "test",
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h := channel.Hop{
		Leg: channel.FromOutside, Channel: &channel.Channel{Namespace: "ns", Name: "c"}, Stores: true, Dest: "ns/c", Start: time.Now(),
		Event: &event.Event{SpecVersion: "1.0", ID: "1", Source: "s", Type: "t"},
	}
	var s channel.Span
	h.Event, s = tracer.Engine().Begin(&h)
	h.Result = &egress.Result{Status: http.StatusAccepted}
	s.End(&h)
	if err := tracer.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if posts.Load() != 1 {
		t.Errorf("the collector got %d posts, want 1", posts.Load())
	}
}
