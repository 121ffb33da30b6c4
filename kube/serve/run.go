package serve

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	eventingv1alpha1 "knative.dev/eventing/pkg/apis/eventing/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/internal/replica"
	"github.com/sidestep-dev/sidestep/internal/rollcall"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
	"github.com/sidestep-dev/sidestep/kube/broker"
	"github.com/sidestep-dev/sidestep/kube/watch"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// configPoll is how often a config-sidestep that cannot be used is looked at again
// before the start.
const configPoll = 2 * time.Second

const (
	closeTimeout = 5 * time.Second
	minKey       = 16
)

// Config of a dispatcher process.
type Config struct {
	// API server and how to identify to it.
	API *rest.Config
	// Namespace of the installation.
	Namespace string
	// Dispatcher is the host name of the dispatchers' Service; ClusterDomain
	// ends the host names of all Services.
	Dispatcher, ClusterDomain string
	// Store says how the store that comes with Sidestep is reached.
	Store broker.Store
	// KeyFile holds the key that signs internal headers, the same for all
	// dispatchers, as it is in the Secret: base64 without padding.
	KeyFile string
	// TLSSecret is the name of the Secret with the certificate.
	TLSSecret string
	// Listen, ListenTLS and Admin are addresses; ListenTLS "" for none.
	Listen, ListenTLS, Admin string
	// Linger and Drain are replica.Config's.
	Linger, Drain time.Duration
	Logger        *slog.Logger
}

// process is a running dispatcher.
type process struct {
	Config
	cache    cache.Cache
	settings manifest.Config
	gate     *gate
	watcher  *watch.Watcher
}

// Run serves until ctx ends, and then stops in order.
func Run(ctx context.Context, c Config) (err error) {
	p := &process{Config: c}
	key, err := readKey(c.KeyFile)
	if err != nil {
		return err
	}
	// What is needed until the last event is delivered outlives ctx.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer func() { stop(); running.Wait() }()
	if p.cache, err = newCache(c); err != nil {
		return err
	}
	failed := make(chan error, 2)
	running.Go(func() { failed <- p.cache.Start(work) })
	if !p.cache.WaitForCacheSync(ctx) {
		return ctx.Err()
	}
	if p.settings, err = p.waitForConfig(ctx); err != nil {
		return unlessStopped(ctx, err)
	}
	b, err := broker.Wait(ctx, p.settings, c.Store, c.Logger)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err = errors.Join(err, b.Close(ctx))
	}()
	p.watcher = &watch.Watcher{
		Cache:   p.cache,
		Options: watch.Options{ClusterDomain: c.ClusterDomain, Dispatcher: c.Dispatcher},
		Logger:  c.Logger,
	}
	if p.gate, err = newGate(work, p); err != nil {
		return err
	}
	r, err := p.replica(work)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.Open(p.engine(b, key)); err != nil {
		return err
	}
	roll := rollcall.NewRoll(table{r.Dispatcher})
	p.watcher.Applier, p.watcher.Roll, p.watcher.Trust = r.Dispatcher, roll, r.Forget
	running.Go(func() { failed <- p.watcher.Run(work) })
	serving, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	running.Go(func() {
		select {
		case err := <-failed:
			cancel(err)
		case <-work.Done():
		}
	})
	err = r.Serve(serving, replica.Life{Ready: p.ready, Handlers: map[string]http.Handler{rollcall.Path: roll}})
	if ctx.Err() == nil && err == nil {
		err = context.Cause(serving) // one of ours ended by itself
	}
	return err
}

func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

var errNotSynced = errors.New("the table is not complete yet")

func (p *process) ready() error {
	if !p.watcher.Synced() {
		return errNotSynced
	}
	return nil
}

// table is what a Roll asks of a dispatcher.
type table struct{ *channel.Dispatcher }

var errUnknown = errors.New("is not in the table")

// Receiving implements rollcall.Table.
func (t table) Receiving(uid string) error {
	s, ok := t.State(uid)
	if !ok {
		return errUnknown
	}
	return s.Err
}

func readKey(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	key, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(key) < minKey {
		return nil, fmt.Errorf("read signing key: %s: want at least %d bytes in base64url without padding", file, minKey)
	}
	return key, nil
}

// newCache makes a cache that keeps in memory what is needed and no more.
func newCache(c Config) (cache.Cache, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, v1alpha1.AddToScheme, eventingv1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	here := func(of cache.Config) cache.ByObject {
		return cache.ByObject{Namespaces: map[string]cache.Config{c.Namespace: of}}
	}
	return cache.New(c.API, cache.Options{
		Scheme:           scheme,
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.ConfigMap{}: here(cache.Config{}),
			&corev1.Secret{}:    here(cache.Config{FieldSelector: fields.OneTermEqualSelector("metadata.name", c.TLSSecret)}),
		},
	})
}

// waitForConfig reads config-sidestep. One that cannot be used is waited for until
// it can: to guess which backend is meant would put events where nobody looks.
func (p *process) waitForConfig(ctx context.Context) (manifest.Config, error) {
	for {
		cm := new(corev1.ConfigMap)
		err := p.cache.Get(ctx, types.NamespacedName{Namespace: p.Namespace, Name: watch.ConfigName}, cm)
		if apierrors.IsNotFound(err) {
			cm, err = nil, nil
		}
		if err != nil {
			return manifest.Config{}, fmt.Errorf("read %s: %w", watch.ConfigName, err)
		}
		c, err := watch.Config(cm)
		if err == nil {
			return c, nil
		}
		p.Logger.Error("config-sidestep cannot be used; waiting until it can", "error", err)
		select {
		case <-time.After(configPoll):
		case <-ctx.Done():
			return c, err
		}
	}
}

func (p *process) replica(ctx context.Context) (*replica.Replica, error) {
	c := replica.Config{
		Listen: p.Listen, ListenTLS: p.ListenTLS, Admin: p.Admin,
		Linger: p.Linger, Drain: p.Drain,
		Logger: p.Logger,
	}
	if p.ListenTLS != "" {
		t, err := p.serverTLS(ctx)
		if err != nil {
			return nil, err
		}
		c.TLS = t
	}
	return replica.New(c)
}

func (p *process) engine(b backend.Backend, key []byte) replica.Engine {
	d := p.settings.Dispatch
	return replica.Engine{
		Backend:         b,
		Key:             key,
		Egress:          egress.Config{Token: p.gate.token, TLS: p.gate.clientTLS},
		Window:          d.MaxInFlight,
		ByteBudget:      d.ByteBudget,
		CheckpointAfter: d.CheckpointAfter,
		Admit:           p.gate.admit(false), AdmitTLS: p.gate.admit(true),
	}
}
