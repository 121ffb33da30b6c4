package livetest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/sidestep-dev/sidestep/kube/inject"
	"github.com/sidestep-dev/sidestep/kube/pods"
	"github.com/sidestep-dev/sidestep/kube/ring"
)

// as is a client's configuration with the rights of one of our accounts: those that
// config/ gives it.
func (w *world) as(account string) *rest.Config {
	conf := rest.CopyConfig(w.conf)
	conf.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + system + ":" + account,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + system, "system:authenticated"},
	}
	return conf
}

// roles gives our accounts their rights.
func (w *world) roles() {
	w.t.Helper()
	for _, f := range []string{"200-accounts.yaml", "200-roles.yaml"} {
		apply(w.t, w.t.Context(), w.client, filepath.Join("..", "..", "config", f))
	}
}

// injector is a webhook that an API server asks, with the rights of a controller.
type injector struct {
	*world
	port   string
	stop   func()
	ahead  atomic.Int64 // of the time
	keeper *inject.Keeper
}

func (w *world) injector() *injector {
	w.t.Helper()
	err := w.client.Get(w.t.Context(), types.NamespacedName{Namespace: system, Name: "sidestep-controller"}, &appsv1.Deployment{})
	if err == nil {
		w.t.Skip("Sidestep is installed here: its webhook is left alone")
	}
	w.roles()
	in := &injector{world: w, port: freePort(w.t)}
	in.installed()
	conf := w.as("sidestep-controller")
	c, err := client.New(conf, client.Options{Scheme: scheme(w.t)})
	if err != nil {
		w.t.Fatal(err)
	}
	trust, err := inject.NewTrustCache(conf, scheme(w.t))
	if err != nil {
		w.t.Fatal(err)
	}
	in.keeper = &inject.Keeper{
		Client: c, TrustCache: trust, Namespace: system, Host: "127.0.0.1", Every: 50 * time.Millisecond, Logger: w.logger,
		Now: func() time.Time { return time.Now().Add(time.Duration(in.ahead.Load())) },
	}
	// The API server goes by the real time: the test's begins in the past, so that
	// there is some to go through.
	in.ahead.Store(int64(-40 * 24 * time.Hour))
	if err := in.keeper.Load(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.inBackground(trust.Start)
	if !trust.WaitForCacheSync(w.t.Context()) {
		w.t.Fatal("the ConfigMaps are not known")
	}
	w.inBackground(in.keeper.Start)
	port, err := strconv.Atoi(in.port)
	if err != nil {
		w.t.Fatal(err)
	}
	s := webhook.NewServer(webhook.Options{Host: "127.0.0.1", Port: port, TLSOpts: []func(*tls.Config){func(t *tls.Config) {
		t.GetCertificate = in.keeper.Certificate
	}}})
	s.Register(inject.Path, inject.Handler(&inject.Webhook{Image: "sidecar:1", Trust: in.keeper.Trust, Logger: w.logger}))
	in.stop = w.inBackground(s.Start)
	return in
}

// installed has the Secrets, empty, and the configuration of the webhook, which is
// asked at the test's address.
func (in *injector) installed() {
	in.t.Helper()
	remove := func() {
		for _, o := range []client.Object{
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: inject.SlipSecret}},
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: inject.CertificateSecret}},
			&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: inject.Configuration}},
		} {
			_ = in.client.Delete(context.Background(), o)
		}
	}
	remove()
	in.t.Cleanup(remove)
	for _, f := range []string{"400-secrets.yaml", "400-injector.yaml"} {
		apply(in.t, in.t.Context(), in.client, filepath.Join("..", "..", "config", f))
	}
	c := new(admissionregistrationv1.MutatingWebhookConfiguration)
	if err := in.client.Get(in.t.Context(), types.NamespacedName{Name: inject.Configuration}, c); err != nil {
		in.t.Fatal(err)
	}
	address := "https://" + net.JoinHostPort("127.0.0.1", in.port) + *c.Webhooks[0].ClientConfig.Service.Path
	c.Webhooks[0].ClientConfig.Service, c.Webhooks[0].ClientConfig.URL = nil, &address
	if err := in.client.Update(in.t.Context(), c); err != nil {
		in.t.Fatal(err)
	}
}

// asking is a pod that wants a sidecar, and keeps to what restricted pods may.
func (w *world) asking(namespace string) *corev1.Pod {
	no, yes := false, true
	user := int64(1000)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, GenerateName: "pics-", Labels: map[string]string{"app": "pics", inject.Label: "true"},
		},
		Spec: corev1.PodSpec{
			SchedulerName: "nobody",
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: &yes, RunAsUser: &user, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "resize", Image: "none",
				Ports: []corev1.ContainerPort{{ContainerPort: 9101}},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
	return p
}

// made is the pod as the API server makes it, once the namespace is fit for pods.
func (in *injector) made(p *corev1.Pod) *corev1.Pod {
	in.t.Helper()
	out := new(corev1.Pod)
	await(in.t, "the namespace to take pods", func() error {
		out = p.DeepCopy()
		return in.client.Create(in.t.Context(), out)
	})
	return out
}

func injected(p *corev1.Pod) error {
	for _, c := range p.Spec.InitContainers {
		if c.Name == pods.Container {
			return nil
		}
	}
	return fmt.Errorf("pod %s has no sidecar", p.Name)
}

// awaitInjection waits until the API server asks us and trusts us.
func (in *injector) awaitInjection() (p *corev1.Pod) {
	in.t.Helper()
	await(in.t, "pods to get sidecars", func() error {
		p = in.made(in.asking(in.namespace))
		return injected(p)
	})
	return p
}

// keys are those that the sidecars in a namespace trust.
func (in *injector) keys(namespace string) (string, error) {
	cm := new(corev1.ConfigMap)
	err := in.client.Get(in.t.Context(), types.NamespacedName{Namespace: namespace, Name: inject.TrustName}, cm)
	return cm.Data[inject.TrustKey], err
}

func (in *injector) keysAre(namespace string, n int) func() error {
	return func() error {
		keys, err := in.keys(namespace)
		if got := strings.Count(keys, "BEGIN PUBLIC KEY"); err != nil || got != n || strings.Contains(keys, "PRIVATE") {
			return fmt.Errorf("%d keys, want %d, error %v", got, n, err)
		}
		return nil
	}
}

func TestAPodThatAsksGetsASidecar(t *testing.T) {
	w := begin(t)
	in := w.injector()
	n := namespaceOf(w.namespace)
	if err := w.client.Patch(t.Context(), n, client.RawPatch(types.MergePatchType,
		[]byte(`{"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}`))); err != nil {
		t.Fatal(err)
	}
	p := in.awaitInjection()
	// The token of the pod's account is for the steps alone.
	for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
		for _, m := range c.VolumeMounts {
			if m.MountPath == "/var/run/secrets/kubernetes.io/serviceaccount" && (m.Name == "sidestep-no-token") != (c.Name == pods.Container) {
				t.Errorf("container %s mounts %s as its token", c.Name, m.Name)
			}
		}
	}
	await(t, "the keys to be published", in.keysAre(w.namespace, 1))
	cm := new(corev1.ConfigMap)
	if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: w.namespace, Name: inject.TrustName}, cm); err != nil {
		t.Fatal(err)
	}
	if o := cm.OwnerReferences; len(o) != 1 || o[0].Kind != "CustomResourceDefinition" || o[0].UID == "" {
		t.Errorf("it is owned by %+v", o)
	}

	t.Run("no other pod does", func(t *testing.T) {
		p := w.asking(w.namespace)
		p.Labels[inject.Label] = "false"
		if err := injected(in.made(p)); err == nil {
			t.Error("it got one")
		}
	})
	t.Run("an annotation that cannot be used is refused", func(t *testing.T) {
		p := w.asking(w.namespace)
		p.Annotations = map[string]string{inject.PortsAnnotation: "http"}
		if err := w.client.Create(t.Context(), p); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), inject.PortsAnnotation) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a dry run publishes nothing", func(t *testing.T) {
		other := begin(t)
		p := other.asking(other.namespace)
		await(t, "the namespace to take pods", func() error {
			return w.client.Create(t.Context(), p.DeepCopy(), client.DryRunAll)
		})
		if _, err := in.keys(other.namespace); !apierrors.IsNotFound(err) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("what somebody changes is put right", func(t *testing.T) {
		cm.Data = map[string]string{inject.TrustKey: "mine"}
		if err := w.client.Update(t.Context(), cm); err != nil {
			t.Fatal(err)
		}
		await(t, "the keys to be back", in.keysAre(w.namespace, 1))
	})
	t.Run("an empty one is filled", func(t *testing.T) {
		other := begin(t)
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: other.namespace, Name: inject.TrustName}}
		if err := w.client.Create(t.Context(), cm); err != nil {
			t.Fatal(err)
		}
		await(t, "it to be filled", in.keysAre(other.namespace, 1))
	})
	t.Run("without us it goes on", func(t *testing.T) {
		in.stop()
		if err := injected(in.made(w.asking(w.namespace))); err == nil {
			t.Error("who was it that answered?")
		}
	})
}

// TestKeysAreRenewedWhilePodsAreMade goes through all states of both rings; the API
// server trusts the webhook in each.
func TestKeysAreRenewedWhilePodsAreMade(t *testing.T) {
	w := begin(t)
	in := w.injector()
	in.awaitInjection()
	first, err := in.keys(w.namespace)
	if err != nil {
		t.Fatal(err)
	}
	bundle := func() int {
		c := new(admissionregistrationv1.MutatingWebhookConfiguration)
		if err := w.client.Get(t.Context(), types.NamespacedName{Name: inject.Configuration}, c); err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(c.Webhooks[0].ClientConfig.CABundle), "BEGIN CERTIFICATE")
	}
	// The slip key is renewed by hand, the certificate since it is due.
	s := new(corev1.Secret)
	await(t, "the annotation to be taken away", func() error {
		if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: system, Name: inject.SlipSecret}, s); err != nil {
			return err
		}
		delete(s.Annotations, ring.Changed)
		return w.client.Update(t.Context(), s)
	})
	for _, state := range []struct {
		beside  string // what the Secret holds beside the current certificate
		ahead   time.Duration
		trusted int
	}{
		// The first advance is long enough for two turns of the slip key.
		{ring.Next, ring.Certificates("").Age, 2},
		{ring.Former, ring.Certificates("").Overlap, 2},
		{"", ring.Certificates("").Overlap, 1},
	} {
		in.ahead.Add(int64(state.ahead))
		// The ring first: in two states the API server trusts as many, and a clock that
		// goes on before a state has begun gives that state a beginning in the future.
		await(t, "the certificate's turn", func() error {
			s := new(corev1.Secret)
			if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: system, Name: inject.CertificateSecret}, s); err != nil {
				return err
			}
			for _, name := range []string{ring.Next, ring.Former} {
				if has := len(s.Data[name]) > 0; has != (name == state.beside) {
					return fmt.Errorf("%s is there: %v, want %q beside the current one", name, has, state.beside)
				}
			}
			return nil
		})
		await(t, "the API server to be told", func() error {
			if got := bundle(); got != state.trusted {
				return fmt.Errorf("%d certificates are trusted, want %d", got, state.trusted)
			}
			return nil
		})
		for range 5 {
			if err := injected(in.made(w.asking(w.namespace))); err != nil {
				t.Errorf("beside the current one %q: %v", state.beside, err)
			}
		}
	}
	await(t, "the new key to be published alone", func() error {
		keys, err := in.keys(w.namespace)
		if err != nil || keys == first || strings.Contains(keys, strings.Split(first, "\n")[1]) {
			return fmt.Errorf("the former one is still trusted, error %v", err)
		}
		return in.keysAre(w.namespace, 1)()
	})
}
