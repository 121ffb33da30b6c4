package standalone

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sidestep-dev/sidestep/colocate/sidecar"
	"github.com/sidestep-dev/sidestep/internal/slipkey"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// sidecarOf starts a sidecar that may call steps, and trusts the key in a file.
func (s *site) sidecarOf(pub string, steps ...string) (url string) {
	s.t.Helper()
	c := sidecar.Config{Pod: "pod", Claims: s.t.TempDir()}
	for _, step := range steps {
		c.Allow = append(c.Allow, sidecar.Port{Number: portOf(s.t, step)})
	}
	car, err := sidecar.New(c)
	if err != nil {
		s.t.Fatal(err)
	}
	b, err := os.ReadFile(pub)
	if err != nil {
		s.t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		s.t.Fatal(err)
	}
	public, _ := key.(ed25519.PublicKey)
	if err := car.Trust([]ed25519.PublicKey{public}); err != nil {
		s.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	server := sidecar.NewServer(car)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			s.t.Errorf("stop the sidecar: %v", err)
		}
		if err := <-served; err != nil {
			s.t.Errorf("serve: %v", err)
		}
		car.Close()
	})
	return "http://" + l.Addr().String()
}

func portOf(t *testing.T, address string) uint16 {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(port)
}

func serviceYAML(name, address, colocate string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Service
metadata:
  name: %s
  annotations: {sidestep.dev/address: %q, sidestep.dev/colocate: %q}
`, name, address, colocate)
}

func localPodYAML(t *testing.T, name, sidecar string, steps map[string]string) string {
	doc := fmt.Sprintf(`
---
apiVersion: sidestep.dev/v1alpha1
kind: LocalPod
metadata: {name: %s}
spec:
  sidecar: %s
  steps:
`, name, sidecar)
	for service, address := range steps {
		doc += fmt.Sprintf("  - {service: %s, port: %d}\n", service, portOf(t, address))
	}
	return doc
}

func TestChainsRunInLocalPodsAsTheFilesSay(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.drainCame()
	a, b := s.step("a"), s.step("b")
	key := filepath.Join(t.TempDir(), "slip.pem")
	if _, err := slipkey.File(key); err != nil {
		t.Fatal(err)
	}
	car := s.sidecarOf(key+".pub", a, b)
	files := func(colocate, routing string) {
		s.write("a.yaml", sequenceYAML("seq", "Colocated", a, b)+serviceYAML("a", a, "true")+serviceYAML("b", b, colocate)+
			localPodYAML(t, "pod", car, map[string]string{"a": a, "b": b})+`
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config-sidestep}
data:
  dispatch: "routing: `+routing+`"
`)
	}
	files("true", "least-request")
	r := s.start(func(c *Config) { c.SlipKey = key })
	colocated := `sidestep_hops_total{channel="seq-kn-sequence-1",code="200",leg="step",namespace="default",travel="colocated"} `
	n := 0
	eventually(t, "the pod to be used", func() bool {
		n++
		r.accept("/default/seq-kn-sequence-0", fmt.Sprint(n))
		s.wantDelivered("b", fmt.Sprint(n))
		_, metrics := r.get("/metrics")
		return seriesOf(metrics, colocated) != ""
	})

	files("false", "round-robin")
	eventually(t, "the files to be applied", func() bool { return r.metric(`sidestep_reloads_total{result="applied"} 1`) })
	_, before := r.get("/metrics")
	r.accept("/default/seq-kn-sequence-0", "after")
	s.wantDelivered("b", "after")
	eventually(t, "the records to be settled", func() bool { return r.metric(`sidestep_records_in_flight 0`) })
	if _, after := r.get("/metrics"); seriesOf(after, colocated) != seriesOf(before, colocated) {
		t.Errorf("a chain ran in the pod of a Service that opted out: %s, was %s", seriesOf(after, colocated), seriesOf(before, colocated))
	}
}

func TestZonesAreThoseOfTheFlagAndOfTheFiles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.step("a")
	pod := func(name, zone string) string {
		return localPodYAML(t, name, "http://127.0.0.1:1", map[string]string{"a": a}) + zone
	}
	s.write("a.yaml", sequenceYAML("seq", "Colocated", a)+serviceYAML("a", a, "true")+pod("one", "  zone: west\n")+pod("two", ""))
	set, err := manifest.Load([]string{s.dir})
	if err != nil {
		t.Fatal(err)
	}
	m := podMap(set, "east")
	if m.Zone != "east" || len(m.Pods) != 2 || m.Pods[0].Zone != "west" || m.Pods[1].Zone != "" {
		t.Errorf("got %+v", m)
	}
}

// seriesOf is the line of a text that begins with a prefix.
func seriesOf(text, prefix string) string {
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, prefix) {
			return l
		}
	}
	return ""
}

// A payload that is in the store goes through a pod by value, as it would to each
// step by itself, and is stored again only where it leaves the pod.
func TestALargePayloadGoesThroughAPod(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.drainCame()
	a, b, c := s.step("a"), s.step("b"), s.step("c")
	key := filepath.Join(t.TempDir(), "slip.pem")
	if _, err := slipkey.File(key); err != nil {
		t.Fatal(err)
	}
	car := s.sidecarOf(key+".pub", a, b)
	s.write("a.yaml", sequenceYAML("seq", "Colocated", a, b, c)+serviceYAML("a", a, "true")+serviceYAML("b", b, "true")+
		localPodYAML(t, "pod", car, map[string]string{"a": a, "b": b}))
	r := s.start(func(c *Config) { c.SlipKey = key })
	colocated := `sidestep_hops_total{channel="seq-kn-sequence-1",code="200",leg="step",namespace="default",travel="colocated"} `
	n := 0
	eventually(t, "a large payload to go through the pod", func() bool {
		n++
		id := fmt.Sprint(n)
		req, err := http.NewRequest(http.MethodPost, r.base+"/default/seq-kn-sequence-0", bytes.NewReader(make([]byte, 3<<20)))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"ce-specversion": "1.0", "ce-id": id, "ce-source": "test", "ce-type": "t"} {
			req.Header.Set(name, value)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusAccepted {
			t.Fatalf("status %d", res.StatusCode)
		}
		s.wantDelivered("c", id)
		_, metrics := r.get("/metrics")
		return seriesOf(metrics, colocated) != ""
	})
}

func TestLocalPodsWithoutAKeyAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.step("a")
	s.write("a.yaml", sequenceYAML("seq", "Colocated", a)+serviceYAML("a", a, "true")+
		localPodYAML(t, "pod", "http://127.0.0.1:1", map[string]string{"a": a}))
	err := Run(t.Context(), Config{Paths: []string{s.dir}, Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Data: s.data})
	if err == nil || !strings.Contains(err.Error(), "default/pod") || !strings.Contains(err.Error(), "--slip-key") {
		t.Errorf("got %v, want an error that names the pod and the flag", err)
	}
}
