package livetest

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"

	"github.com/sidestep-dev/sidestep/colocate/sidecar"
	"github.com/sidestep-dev/sidestep/internal/slipkey"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
	"github.com/sidestep-dev/sidestep/kube/pods"
)

// ownAddress is one of this machine's that an endpoint may have: loopback may not.
func ownAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Fatal("this machine has no address but loopback")
	return ""
}

// slipKeyFile makes a key, which the dispatchers that follow have.
func (w *world) slipKeyFile() ed25519.PrivateKey {
	w.t.Helper()
	w.slipKey = filepath.Join(w.t.TempDir(), "current")
	private, _, err := slipkey.Make()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.slipKey, private, 0o600); err != nil {
		w.t.Fatal(err)
	}
	key, err := slipkey.Parse(private)
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

// step answers with what it gets, and counts.
func step(t *testing.T) (port uint16, calls *atomic.Int64) {
	t.Helper()
	calls = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		for k, v := range r.Header {
			if len(k) > 3 && k[:3] == "Ce-" || k == "Content-Type" {
				w.Header()[k] = v
			}
		}
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n), calls
}

// sidecarPod makes a pod with a sidecar that may call steps, and runs the sidecar.
func (w *world) sidecarPod(name, ip string, trust ed25519.PrivateKey, steps ...uint16) {
	w.t.Helper()
	l, err := net.Listen("tcp", ip+":0")
	if err != nil {
		w.t.Fatal(err)
	}
	always := corev1.ContainerRestartPolicyAlways
	var none bool
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Labels: map[string]string{"app": "pics"}},
		Spec: corev1.PodSpec{
			NodeName: w.node("west"), AutomountServiceAccountToken: &none,
			Containers: []corev1.Container{{Name: "steps", Image: "none"}},
			InitContainers: []corev1.Container{{
				Name: pods.Container, Image: "none", RestartPolicy: &always,
				Ports: []corev1.ContainerPort{{Name: pods.PortName, ContainerPort: int32(l.Addr().(*net.TCPAddr).Port)}}, //nolint:forcetypeassert // it is one
			}},
		},
	}
	if err := w.client.Create(w.t.Context(), p); err != nil {
		w.t.Fatal(err)
	}
	p.Status.Phase, p.Status.PodIP, p.Status.PodIPs = corev1.PodRunning, ip, []corev1.PodIP{{IP: ip}}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if err := w.client.Status().Update(w.t.Context(), p); err != nil {
		w.t.Fatal(err)
	}
	c := sidecar.Config{Pod: string(p.UID), Claims: w.t.TempDir()}
	for _, port := range steps {
		c.Allow = append(c.Allow, sidecar.Port{Number: port})
	}
	car, err := sidecar.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	public, _ := trust.Public().(ed25519.PublicKey)
	if err := car.Trust([]ed25519.PublicKey{public}); err != nil {
		w.t.Fatal(err)
	}
	server := sidecar.NewServer(car)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), guard)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			w.t.Error(err)
		}
		<-served
		car.Close()
	})
}

// TestStepsThatShareAPodRunThere with nothing configured: two Services select one pod
// that has a sidecar. Their names lead nowhere here, so nothing else can have called them.
func TestStepsThatShareAPodRunThere(t *testing.T) {
	w := begin(t)
	ip := ownAddress(t)
	key := w.slipKeyFile()
	// On a busy machine a step takes long, and what was stored before the next one would
	// never reach it.
	w.configure(map[string]string{"dispatch": "checkpointAfter: " + guard.String()})
	await(t, "that to be in effect", func() error {
		if got := w.state().Config.Dispatch.CheckpointAfter; got != guard {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
	d := w.dispatcher("d-1", "127.0.0.1")
	resize, resized := step(t)
	caption, captioned := step(t)
	l := newLedger(t)
	w.sidecarPod("pics-0", ip, key, resize, caption)
	w.service("resize", int32(resize))
	w.service("caption", int32(caption))

	address := func(channel string) *apis.URL {
		return apis.HTTP(channel + "-kn-channel." + w.namespace + ".svc.cluster.local")
	}
	chain := []struct{ channel, step, reply string }{{"a", "resize", "b"}, {"b", "caption", "c"}}
	w.make("c", v1alpha1.SidestepChannelSpec{})
	w.subscribe("c", subscriber(t, "last", l.url))
	for _, s := range chain {
		w.make(s.channel, v1alpha1.SidestepChannelSpec{})
		sub := patient(t, s.step, "http://"+s.step+"."+w.namespace+".svc.cluster.local")
		sub.ReplyURI = address(s.reply)
		w.subscribe(s.channel, sub)
	}
	for channel, uid := range map[string]string{"a": "resize", "b": "caption", "c": "last"} {
		await(t, "the subscription", w.subscribed(channel, uid, corev1.ConditionTrue, ""))
	}
	// One that comes before the pod is used is sent to a name that leads nowhere.
	n := 0
	await(t, "an event at the end", func() error {
		n++
		time.Sleep(100 * time.Millisecond) // those that go nowhere take a place each
		if status := d.post("a", fmt.Sprint(n)); status != 202 {
			t.Fatalf("answered %d", status)
		}
		for i := range n {
			if l.has(fmt.Sprint(i+1)) == nil {
				return nil
			}
		}
		return fmt.Errorf("none of %d has come; the steps were called %d and %d times", n, resized.Load(), captioned.Load())
	})
	if a, b := resized.Load(), captioned.Load(); a < 1 || b < 1 {
		t.Errorf("the steps were called %d and %d times", a, b)
	}
}
