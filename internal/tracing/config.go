package tracing

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// Protocols of Config.
const (
	None   = "none"
	GRPC   = "grpc"
	HTTP   = "http/protobuf"
	Stdout = "stdout"
)

// Config is that of Knative's ConfigMap config-observability: tracing-protocol,
// tracing-endpoint, tracing-sampling-rate. The zero value makes no spans.
type Config struct {
	// Protocol is None, the default, GRPC, HTTP or Stdout.
	Protocol string
	// Endpoint is the URL of a collector, for GRPC and HTTP.
	Endpoint string
	// SamplingRate is the share of new traces that is recorded, from 0 to 1. A trace
	// that began elsewhere is recorded if it was there.
	SamplingRate float64

	// sampler: OTEL_TRACES_SAMPLER says which traces are recorded, and not
	// SamplingRate; endpoint: OTEL_EXPORTER_OTLP_* say where they go.
	sampler, endpoint bool
}

// Validate tells what is wrong with c, all of it.
func (c *Config) Validate() error {
	var errs []error
	switch c.Protocol {
	case GRPC, HTTP:
		if c.Endpoint == "" && !c.endpoint {
			errs = append(errs, fmt.Errorf("no endpoint for protocol %s", c.Protocol))
		}
	case "", None, Stdout:
		if c.Endpoint != "" {
			errs = append(errs, fmt.Errorf("an endpoint, and protocol %s", cmp.Or(c.Protocol, None)))
		}
	default:
		errs = append(errs, fmt.Errorf("protocol %q: want %s, %s, %s or %s", c.Protocol, None, GRPC, HTTP, Stdout))
	}
	if !(c.SamplingRate >= 0 && c.SamplingRate <= 1) {
		errs = append(errs, fmt.Errorf("sampling rate %v: want 0 to 1", c.SamplingRate))
	}
	return errors.Join(errs...)
}

// WithEnvironment is c as OpenTelemetry's environment variables change it, which are
// read with getenv: they choose the exporter where c has none, and the SDK goes by
// them for endpoints, headers, certificates, sampling and the resource.
func (c Config) WithEnvironment(getenv func(string) string) Config {
	first := func(names ...string) string {
		for _, n := range names {
			if v := getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	exporter := getenv("OTEL_TRACES_EXPORTER")
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || exporter == "none" {
		return Config{}
	}
	c.sampler = getenv("OTEL_TRACES_SAMPLER") != ""
	c.endpoint = first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") != ""
	if c.Protocol != "" && c.Protocol != None {
		return c
	}
	switch {
	case exporter == "console":
		c.Protocol = Stdout
	case exporter == "otlp" || exporter == "" && c.endpoint:
		c.Protocol = cmp.Or(first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"), HTTP)
		c.endpoint = true // or the SDK's default
	default:
		return c
	}
	c.SamplingRate = 1 // what the specification's default comes to
	return c
}
