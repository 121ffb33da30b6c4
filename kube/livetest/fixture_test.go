package livetest

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	eventingv1alpha1 "knative.dev/eventing/pkg/apis/eventing/v1alpha1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
	"github.com/sidestep-dev/sidestep/internal/telemetry"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
	"github.com/sidestep-dev/sidestep/kube/broker"
	"github.com/sidestep-dev/sidestep/kube/reconcile"
	"github.com/sidestep-dev/sidestep/kube/serve"
)

// guard is how long a test waits for what must come.
const guard = time.Minute

const (
	system     = "knative-eventing"
	dispatcher = "sidestep-dispatcher." + system + ".svc.cluster.local"
)

var dispatcherLabels = map[string]string{"app.kubernetes.io/name": "sidestep", "app.kubernetes.io/component": "dispatcher"}

func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, v1alpha1.AddToScheme, eventingv1alpha1.AddToScheme, apiextensionsv1.AddToScheme,
	} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// installed is the API server with our CRD, Knative's, and our admission policy.
var installed = sync.OnceValues(func() (*rest.Config, error) {
	c, err := ctrl.GetConfig()
	if err != nil {
		return nil, err
	}
	c.QPS, c.Burst = 500, 1000
	return c, nil
})

// api is the API server, and a client of it; the test is skipped without one.
func api(t *testing.T) (*rest.Config, client.Client) {
	t.Helper()
	if os.Getenv("SIDESTEP_CLUSTER") == "" {
		t.Skip("needs an API server: run \"make test-cluster\", or set SIDESTEP_CLUSTER=1 and KUBECONFIG")
	}
	conf, err := installed()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(conf, client.Options{Scheme: scheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	install(t, c)
	return conf, c
}

// install applies what the tests need of config/ and of Knative.
func install(t *testing.T, c client.Client) {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "knative.dev/eventing/pkg/apis/eventing/v1alpha1").Output()
	if err != nil {
		t.Fatal("find Knative's CRDs:", err)
	}
	knative := filepath.Join(strings.TrimSpace(string(out)), "../../../..")
	root := filepath.Join("..", "..", "config")
	ctx, cancel := context.WithTimeout(context.Background(), guard)
	defer cancel()
	if err := c.Create(ctx, namespaceOf(system)); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	for _, f := range []string{
		filepath.Join(knative, "config/core/resources/eventpolicy.yaml"),
		filepath.Join(root, "100-sidestepchannel.yaml"),
		filepath.Join(root, "300-admission.yaml"),
	} {
		apply(t, ctx, c, f)
	}
	await(t, "the CRDs to be served", func() error {
		return firstError(c.List(ctx, &v1alpha1.SidestepChannelList{}), c.List(ctx, &eventingv1alpha1.EventPolicyList{}))
	})
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func apply(t *testing.T, ctx context.Context, c client.Client, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := yaml.NewYAMLOrJSONDecoder(f, 1<<20)
	for {
		u := &unstructured.Unstructured{}
		if err := d.Decode(&u.Object); err != nil {
			if err == io.EOF { //nolint:errorlint // the decoder returns it as it is
				return
			}
			t.Fatal(file, err)
		}
		if u.Object == nil {
			continue
		}
		if err := c.Create(ctx, u); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(file, err)
		}
	}
}

func namespaceOf(name string) *corev1.Namespace {
	n := &corev1.Namespace{}
	n.Name = name
	return n
}

// await waits until f returns nil.
func await(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(guard); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("waiting for %s: %v", what, err)
}

// world is a controller with dispatchers on an API server.
type world struct {
	t         *testing.T
	conf      *rest.Config
	client    client.Client
	namespace string
	open      reconcile.Servers // of controller and dispatchers
	servers   *servers          // the same, unless the test brings its own
	backend   backend.Backend   // the test's own connection to the default one
	admin     string            // port of the dispatchers' admin servers
	logger    *slog.Logger
	key       []byte
	keyFile   string
	slipKey   string // file, "" for none
	stop      func() // the controller
	discarded prometheus.Counter
}

// begin makes a namespace of the test's own, and runs a controller.
func begin(t *testing.T) *world {
	t.Helper()
	return beginWith(t, nil)
}

// beginWith is begin with servers that are made for the namespace; nil: in memory.
func beginWith(t *testing.T, open func(w *world) reconcile.Servers) *world {
	t.Helper()
	conf, c := api(t)
	w := &world{
		t: t, conf: conf, client: c, servers: newServers(t), discarded: telemetry.NewDiscarded(),
		namespace: strings.ToLower(fmt.Sprintf("t-%x", time.Now().UnixNano())),
		logger:    slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
		key:       []byte("a key that all dispatchers share"),
	}
	if err := c.Create(t.Context(), namespaceOf(w.namespace)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Delete(context.Background(), namespaceOf(w.namespace))
		_ = w.backend.Close(context.Background())
	})
	var err error
	if w.backend, err = w.servers.connect("embedded"); err != nil {
		t.Fatal(err)
	}
	w.keyFile = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(w.keyFile, []byte(base64.RawURLEncoding.EncodeToString(w.key)), 0o600); err != nil {
		t.Fatal(err)
	}
	// The test's namespace is that of an installation, too.
	w.configMap(broker.StateName, nil)
	w.open = w.servers
	if open != nil {
		w.open = open(w)
	}
	w.admin = freePort(t)
	w.controller()
	return w
}

// configMap writes one of the installation.
func (w *world) configMap(name string, data map[string]string) {
	w.t.Helper()
	cm := &corev1.ConfigMap{Data: data}
	cm.Namespace, cm.Name = w.namespace, name
	err := w.client.Create(w.t.Context(), cm.DeepCopy())
	if apierrors.IsAlreadyExists(err) {
		err = w.client.Update(w.t.Context(), cm)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	_, port, _ := net.SplitHostPort(brokertest.FreeAddress(t))
	return port
}

// inBackground runs f until the test ends, or stop is called.
func (w *world) inBackground(f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil && ctx.Err() == nil {
			w.t.Error(err)
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-done }) }
	w.t.Cleanup(stop)
	return stop
}

// controller runs one for the test's namespace, until w.stop is called.
func (w *world) controller() {
	w.t.Helper()
	ctrl.SetLogger(logr.FromSlogHandler(slog.DiscardHandler))
	skip := true
	m, err := ctrl.NewManager(w.conf, ctrl.Options{
		Scheme:     scheme(w.t),
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: &skip},
		Logger:     logr.FromSlogHandler(w.logger.Handler()),
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{w.namespace: {}, system: {}},
			ByObject: map[client.Object]cache.ByObject{
				&v1alpha1.SidestepChannel{}: {Namespaces: map[string]cache.Config{w.namespace: {}}},
				&corev1.Service{}:           {Label: labels.SelectorFromSet(reconcile.ServiceLabels())},
			},
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	keys, err := claimcheck.NewKeys(w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	// The test's own pods stand for its dispatchers.
	roll := reconcile.NewRoll(m.GetClient(), w.namespace, dispatcherLabels, w.admin, w.logger)
	s := &reconcile.System{
		Reader: m.GetClient(), Client: w.client, Namespace: w.namespace, Servers: w.open, Keys: keys, Roll: roll,
		Events: m.GetEventRecorder("sidestep"), Logger: w.logger,
	}
	s.Prepare()
	r := &reconcile.Reconciler{
		Client: m.GetClient(), Direct: m.GetAPIReader(),
		Backend: s.Backend, Settings: s.Settings, CACerts: s.CACerts,
		Roll: roll, Changed: s.Changed(), Events: s.Events, Discarded: w.discarded,
		Dispatcher: dispatcher, ClusterDomain: "cluster.local",
	}
	if err := m.Add(s); err != nil {
		w.t.Fatal(err)
	}
	if err := r.SetupWithManager(m); err != nil {
		w.t.Fatal(err)
	}
	w.stop = w.inBackground(func(ctx context.Context) error {
		err := m.Start(ctx)
		return errors.Join(err, s.Close(context.WithoutCancel(ctx)))
	})
}

// dispatcher runs one, with a pod that says so. ip is a loopback address of its
// own: all have the same port.
func (w *world) dispatcher(name, ip string) *running {
	w.t.Helper()
	d := &running{address: net.JoinHostPort(ip, freePort(w.t)), name: name, w: w}
	d.kill = w.inBackground(func(ctx context.Context) error {
		return serve.Run(ctx, serve.Config{
			API: w.conf, Namespace: w.namespace, Channels: w.namespace, Dispatcher: dispatcher, ClusterDomain: "cluster.local",
			Servers: w.open, KeyFile: w.keyFile, SlipKeyFile: w.slipKey, Secrets: w.t.TempDir(),
			Listen: d.address, Admin: net.JoinHostPort(ip, w.admin), Drain: 5 * time.Second, Logger: w.logger.With("dispatcher", name),
		})
	})
	await(w.t, "the dispatcher to be ready", func() error {
		resp, err := http.Get("http://" + net.JoinHostPort(ip, w.admin) + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("answered %d", resp.StatusCode)
		}
		return nil
	})
	w.pod(name, ip)
	return d
}

// running is a dispatcher.
type running struct {
	w             *world
	name, address string
	kill          func()
}

// pod makes the object that says that a dispatcher runs.
func (w *world) pod(name, ip string) {
	w.t.Helper()
	p := &corev1.Pod{}
	p.Name, p.Namespace, p.Labels = name, w.namespace, dispatcherLabels
	p.Spec.Containers = []corev1.Container{{Name: "dispatcher", Image: "none"}}
	var none bool
	p.Spec.AutomountServiceAccountToken = &none
	p.Spec.SchedulerName = "nobody"
	await(w.t, "the namespace to take pods", func() error { return w.client.Create(w.t.Context(), p.DeepCopy()) })
	if err := w.client.Get(w.t.Context(), client.ObjectKeyFromObject(p), p); err != nil {
		w.t.Fatal(err)
	}
	p.Status.Phase, p.Status.PodIP = corev1.PodRunning, ip
	p.Status.PodIPs = []corev1.PodIP{{IP: ip}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "dispatcher", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
	}}
	if err := w.client.Status().Update(w.t.Context(), p); err != nil {
		w.t.Fatal(err)
	}
}

// gone removes the pod, as the kubelet does once the process has ended.
func (w *world) gone(name string) {
	w.t.Helper()
	p := &corev1.Pod{}
	p.Name, p.Namespace = name, w.namespace
	if err := w.client.Delete(w.t.Context(), p, client.GracePeriodSeconds(0)); err != nil {
		w.t.Fatal(err)
	}
}

// post sends an event to a channel, and returns the status.
func (d *running) post(channel, id string) int {
	d.w.t.Helper()
	return d.postData(channel, id, []byte("x"))
}

func (d *running) postData(channel, id string, data []byte) int {
	d.w.t.Helper()
	status, err := d.send(channel, id, data)
	if err != nil {
		d.w.t.Fatal(err)
	}
	return status
}

// send is postData for any goroutine.
func (d *running) send(channel, id string, data []byte) (int, error) {
	req, err := http.NewRequestWithContext(d.w.t.Context(), http.MethodPost, "http://"+d.address+"/", bytes.NewReader(data))
	if err != nil {
		return 0, err
	}
	req.Host = channel + "-kn-channel." + d.w.namespace + ".svc.cluster.local"
	for k, v := range map[string]string{"Ce-Id": id, "Ce-Type": "t", "Ce-Source": "s", "Ce-Specversion": "1.0", "Content-Type": "text/plain"} {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}

// ledger is a subscriber that notes what it gets.
type ledger struct {
	url string

	mu   sync.Mutex
	ids  map[string]int
	data map[string][]byte // the last, by id
	fail bool
}

func newLedger(t *testing.T) *ledger {
	t.Helper()
	l := &ledger{ids: map[string]int{}, data: map[string][]byte{}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.fail {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		l.ids[r.Header.Get("Ce-Id")]++
		l.data[r.Header.Get("Ce-Id")] = b
	}))
	t.Cleanup(s.Close)
	l.url = s.URL
	return l
}

func (l *ledger) has(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ids[id] == 0 {
		return fmt.Errorf("event %s has not come", id)
	}
	return nil
}

func (l *ledger) setFail(fail bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = fail
}

// again counts the deliveries beyond each event's first.
func (l *ledger) again() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, times := range l.ids {
		n += times - 1
	}
	return n
}

func (l *ledger) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.ids)
}

func (l *ledger) dataOf(id string) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.data[id]
}
