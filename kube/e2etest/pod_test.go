package e2etest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// together starts a pod whose two containers are the steps a and b, and a sidecar that
// is put into it; each step has a Service.
func (s *scene) together(replicas int) {
	s.t.Helper()
	containers, services := "", ""
	for i, step := range []string{"a", "b"} {
		port := 9101 + i
		containers += fmt.Sprintf(`
      - name: %[1]s
        image: %[2]s
        imagePullPolicy: IfNotPresent
        args: [answer, --name, %[1]s, --listen, ":%[3]d"]
        ports: [{containerPort: %[3]d}]
        readinessProbe: {httpGet: {path: /healthz, port: %[3]d}, periodSeconds: 1}
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
`, step, image, port)
		services += fmt.Sprintf(`
---
apiVersion: v1
kind: Service
metadata: {name: %s}
spec:
  selector: {app: together}
  ports: [{port: 80, targetPort: %d}]
`, step, port)
	}
	s.apply(fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: together, labels: {app: together}}
spec:
  replicas: %d
  selector: {matchLabels: {app: together}}
  template:
    metadata:
      labels: {app: together, sidestep.dev/inject: "true"}
      annotations: {sidestep.dev/ports: "9101,9102"}
    spec:
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:%s%s`, replicas, containers, services))
	s.served("a")
	s.served("b")
}

// hops is how many hops into a channel went a way, in all dispatchers that run.
func (s *scene) hops(channel, travel string) (n int) {
	s.t.Helper()
	line := regexp.MustCompile(`(?m)^sidestep_hops_total\{([^}]*)\} (\d+)`)
	for _, p := range s.pods(system, dispatchers) {
		b, err := s.kube.CoreV1().RESTClient().Get().Namespace(system).Resource("pods").Name(p.Name + ":9090").
			SubResource("proxy").Suffix("metrics").DoRaw(s.ctx)
		if err != nil {
			s.t.Logf("metrics of %s: %v", p.Name, err) // it may have just ended
			continue
		}
		for _, m := range line.FindAllStringSubmatch(string(b), -1) {
			if strings.Contains(m[1], fmt.Sprintf("namespace=%q", s.ns)) && strings.Contains(m[1], fmt.Sprintf("channel=%q", channel)) &&
				strings.Contains(m[1], fmt.Sprintf("travel=%q", travel)) {
				v, err := strconv.Atoi(m[2])
				if err != nil {
					s.t.Fatal(err)
				}
				n += v
			}
		}
	}
	return n
}

// Two Services that select the same pods, and a sidecar in these: events go from step
// to step within the pod. Nobody is lost when pods and dispatchers are killed.
func TestStepsThatShareAPodAreCalledInIt(t *testing.T) {
	s := newScene(t)
	s.part("end", "collect")
	s.together(2)
	f := s.flow("Colocated", "a", "b")
	f.post(rate...)
	f.await("hops within a pod", func() error {
		if n := f.hops("flow-kn-sequence-1", "colocated"); n < 10 {
			return fmt.Errorf("there were %d", n)
		}
		return nil
	})
	for _, v := range []struct{ ns, label string }{{f.ns, "app=together"}, {system, dispatchers}, {f.ns, "app=together"}} {
		pods := f.pods(v.ns, v.label)
		if len(pods) == 0 {
			t.Fatalf("no pod runs of %s", v.label)
		}
		t.Logf("kill %s", pods[0].Name)
		f.kill(&pods[0])
		f.flowing()
	}
	for id, a := range f.stop().Came {
		if a.Way != "ab" {
			t.Errorf("event %s went the way %q, want ab", id, a.Way)
		}
	}
}
