package watch

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

func TestTheConfigMapIsReadAsAFileIs(t *testing.T) {
	c, err := Config(nil)
	if err != nil || c.Backend != manifest.BackendEmbedded || c.Dispatch.DrainOnDelete == 0 {
		t.Errorf("the default is %+v, %v", c, err)
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: ConfigName, Namespace: "knative-eventing"}, Data: map[string]string{
		"backend":  "nats",
		"nats":     "url: nats://broker:4222\nreplicas: 3\n",
		"dispatch": "shortCircuit: Always\nmaxInFlight: 7\n",
	}}
	c, err = Config(cm)
	if err != nil {
		t.Fatal(err)
	}
	if c.Backend != "nats" || c.NATS.URL != "nats://broker:4222" || c.NATS.Replicas != 3 ||
		c.Dispatch.MaxInFlight != 7 || c.Dispatch.ShortCircuit != channel.Always {
		t.Errorf("got %+v", c)
	}
	cm = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: ObservabilityName}, Data: map[string]string{
		"metrics-protocol": "prometheus", "tracing-protocol": "grpc", "tracing-endpoint": "http://collector:4317", "tracing-sampling-rate": "0.1",
	}}
	c, err = Config(cm)
	if want := (manifest.Tracing{Protocol: "grpc", Endpoint: "http://collector:4317", SamplingRate: 0.1}); err != nil || c.Tracing != want {
		t.Errorf("traces: %+v, %v", c.Tracing, err)
	}
	cm = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: ConfigName}, Data: map[string]string{}}
	cm.Data["dispatch"] = "maxInFlight: many"
	_, err = Config(cm)
	var problems manifest.Problems
	if !errors.As(err, &problems) || !strings.Contains(err.Error(), "dispatch") {
		t.Errorf("got %v", err)
	}
}
