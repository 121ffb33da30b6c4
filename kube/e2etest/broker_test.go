package e2etest

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Knative's channel based broker stands on our channels: a trigger gets what its filter
// lets through, and what it answers is in the broker again.
func TestABrokerStandsOnOurChannels(t *testing.T) {
	s := newScene(t)
	if _, err := s.kube.CoreV1().Services(system).Get(s.ctx, "broker-ingress", metav1.GetOptions{}); err != nil {
		t.Skipf("needs Knative's channel based broker, which hack/cluster knative installs: %v", err)
	}
	s.part("end", "collect")
	s.part("other", "collect")
	s.part("a", "answer", "--name", "a", "--type", "answered")
	s.apply(`
apiVersion: v1
kind: ConfigMap
metadata: {name: on-sidestep}
data:
  channel-template-spec: |
    apiVersion: messaging.sidestep.dev/v1alpha1
    kind: SidestepChannel
---
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata:
  name: broker
  annotations: {eventing.knative.dev/broker.class: MTChannelBasedBroker}
spec:
  config: {apiVersion: v1, kind: ConfigMap, name: on-sidestep}
  delivery: ` + patient + `
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: first}
spec:
  broker: broker
  filter: {attributes: {type: test}}
  subscriber: {ref: {apiVersion: v1, kind: Service, name: a}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: last}
spec:
  broker: broker
  filter: {attributes: {type: answered}}
  subscriber: {ref: {apiVersion: v1, kind: Service, name: end}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: other}
spec:
  broker: broker
  filter: {attributes: {type: nobody-sends-this}}
  subscriber: {ref: {apiVersion: v1, kind: Service, name: other}}
`)
	s.ready("eventing.knative.dev/v1", "Broker", "broker")
	for _, trigger := range []string{"first", "last", "other"} {
		s.ready("eventing.knative.dev/v1", "Trigger", trigger)
	}
	s.ready("messaging.sidestep.dev/v1alpha1", "SidestepChannel", "broker-kne-trigger")
	s.deliverTo([]string{"http://broker-ingress." + system + ".svc.cluster.local/" + s.ns + "/broker"}, 1)
	var c collected
	s.await("the report of a trigger whose filter nothing passes", func() error { return s.ask("GET", "other", "report", &c) })
	if len(c.Came) > 0 {
		t.Errorf("%d events passed a filter that they do not match", len(c.Came))
	}
}
