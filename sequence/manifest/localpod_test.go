package manifest_test

import (
	"fmt"
	"testing"

	"github.com/sidestep-dev/sidestep/colocate/balance"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

func TestLocalPodsAndTheServicesThatMayShareThem(t *testing.T) {
	t.Parallel()
	set, err := manifest.Parse("a.yaml", []byte(`
apiVersion: v1
kind: Service
metadata: {name: resize, annotations: {sidestep.dev/address: "http://127.0.0.1:9001"}}
---
apiVersion: v1
kind: Service
metadata: {name: caption, annotations: {sidestep.dev/address: "http://127.0.0.1:9002", sidestep.dev/colocate: "true"}}
---
apiVersion: v1
kind: Service
metadata: {name: apart, annotations: {sidestep.dev/address: "http://127.0.0.1:9003", sidestep.dev/colocate: "false"}}
---
apiVersion: sidestep.dev/v1alpha1
kind: LocalPod
metadata: {name: two}
spec: {sidecar: "http://127.0.0.1:9301", zone: b, weight: 3, steps: [{service: resize, port: 9201}]}
---
apiVersion: sidestep.dev/v1alpha1
kind: LocalPod
metadata: {name: one}
spec:
  sidecar: http://127.0.0.1:9300
  steps: [{service: resize, port: 9101}, {service: caption, port: 9102}, {service: apart, port: 9103}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config-sidestep}
data:
  dispatch: "routing: maglev"
`))
	if err != nil {
		t.Fatal(err)
	}
	want := "[{default one http://127.0.0.1:9300  1 [{resize 9101} {caption 9102} {apart 9103}]} " +
		"{default two http://127.0.0.1:9301 b 3 [{resize 9201}]}]"
	if got := fmt.Sprint(set.LocalPods()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	want = "map[default/caption:http://127.0.0.1:9002 default/resize:http://127.0.0.1:9001]"
	if got := fmt.Sprint(set.ColocatedServices()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := set.Config.Dispatch.Routing; got != balance.Maglev {
		t.Errorf("routing %v", got)
	}
}
