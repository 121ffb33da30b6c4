package manifest_test

import (
	"strings"
	"testing"

	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

func TestTracingIsConfiguredAsKnativeDoes(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-observability, namespace: knative-eventing}\n"
	for _, tt := range []struct {
		data, problem string
		want          manifest.Tracing
	}{
		{"", "", manifest.Tracing{}},
		{"data: {metrics-protocol: prometheus, request-metrics-protocol: none}", "", manifest.Tracing{}},
		{"data: {tracing-protocol: none, tracing-sampling-rate: '0.1'}", "", manifest.Tracing{Protocol: "none", SamplingRate: 0.1}},
		{
			"data: {tracing-protocol: grpc, tracing-endpoint: 'http://c.o:4317', tracing-sampling-rate: '1'}", "",
			manifest.Tracing{Protocol: "grpc", Endpoint: "http://c.o:4317", SamplingRate: 1},
		},
		{"data: {tracing-protocol: http/protobuf}", "data.tracing-endpoint: is required with tracing-protocol http/protobuf", manifest.Tracing{}},
		{"data: {tracing-endpoint: 'http://c'}", "data.tracing-endpoint: goes with tracing-protocol grpc or http/protobuf", manifest.Tracing{}},
		{"data: {tracing-sampling-rate: 'NaN'}", "data.tracing-sampling-rate: want a number from 0 to 1", manifest.Tracing{}},
	} {
		set, err := manifest.Parse("a.yaml", []byte(head+tt.data))
		switch {
		case tt.problem != "":
			if err == nil || !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("%s: error %v, want %s", tt.data, err, tt.problem)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.data, err)
		case set.Config.Tracing != tt.want:
			t.Errorf("%s: %+v, want %+v", tt.data, set.Config.Tracing, tt.want)
		}
	}
}
