package serve

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	eventingv1alpha1 "knative.dev/eventing/pkg/apis/eventing/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/internal/replica"
	"github.com/sidestep-dev/sidestep/internal/rollcall"
	"github.com/sidestep-dev/sidestep/internal/telemetry"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
	"github.com/sidestep-dev/sidestep/kube/broker"
	"github.com/sidestep-dev/sidestep/kube/pods"
	"github.com/sidestep-dev/sidestep/kube/secrets"
	"github.com/sidestep-dev/sidestep/kube/watch"
)

const (
	closeTimeout = 5 * time.Second
	minKey       = 32
)

// Config of a dispatcher process.
type Config struct {
	// API server and how to identify to it.
	API *rest.Config
	// Namespace of the installation.
	Namespace string
	// Pod is the name of the pod that this is, "" if it is none: by it its next container
	// takes over from the last one, and pods of its zone are preferred.
	Pod string
	// Channels are those of this namespace alone; "": all.
	Channels string
	// Dispatcher is the host name of the dispatchers' Service; ClusterDomain
	// ends the host names of all Services.
	Dispatcher, ClusterDomain string
	// Store says how the store that comes with Sidestep is reached.
	Store broker.Store
	// Servers, if set, opens what config-sidestep names in another way.
	Servers Servers
	// KeyFile holds the key that signs internal headers, the same for all
	// dispatchers, as it is in the Secret: base64 without padding.
	KeyFile string
	// Secrets is a folder in memory for the Secrets that config-sidestep names.
	Secrets string
	// SlipKeyFile holds the key that slips are signed with, in PEM; "": no chain runs in
	// a pod.
	SlipKeyFile string
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
	cache      cache.Cache
	stocks     *stocks
	gate       *gate
	watcher    *watch.Watcher
	colocation colocation
}

// Run serves until ctx ends, and then stops in order.
func Run(ctx context.Context, c Config) (err error) {
	p := &process{Config: c, colocation: colocation{keyFile: c.SlipKeyFile}}
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
	failed := make(chan error, 3)
	running.Go(func() { failed <- p.cache.Start(work) })
	if !p.cache.WaitForCacheSync(ctx) {
		return ctx.Err()
	}
	p.watcher = &watch.Watcher{
		Cache: p.cache,
		Options: watch.Options{
			ClusterDomain: c.ClusterDomain, Dispatcher: c.Dispatcher, ByReference: p.colocation.byReference,
		},
		ShortCircuit: func() channel.ShortCircuit { return p.stocks.now().Config.Dispatch.ShortCircuit },
		Logger:       c.Logger,
	}
	if p.gate, err = newGate(work, p); err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	mirror, err := p.openStocks(ctx, key, registry)
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err = errors.Join(err, p.stocks.close(ctx))
	}()
	if err != nil {
		return unlessStopped(ctx, err)
	}
	tracer := p.tracer(work)
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err = errors.Join(err, tracer.Shutdown(ctx))
	}()
	r, err := p.replica(work, registry)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	engine, err := p.engine(key, tracer.Engine())
	if err == nil {
		err = r.Open(engine)
	}
	if err != nil {
		return err
	}
	roll := rollcall.NewRoll(table{r.Dispatcher})
	roll.Stocks = p.stocks
	p.watcher.Applier, p.watcher.Roll, p.watcher.Trust, p.watcher.Places = r.Dispatcher, roll, r.Forget, p.stocks.pool.Swap
	running.Go(func() { failed <- p.watcher.Run(work) })
	running.Go(func() { failed <- p.podsWatcher(r, p.watcher.Mark).Run(work) })
	serving, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	running.Go(func() {
		select {
		case err := <-failed:
			cancel(err)
		case <-work.Done():
		}
	})
	err = r.Serve(serving, replica.Life{
		Ready: p.ready, Handlers: map[string]http.Handler{rollcall.Path: roll},
		Run: []func(context.Context){
			mirror.Run,
			func(ctx context.Context) { p.stocks.run(ctx, func() { p.changed(r) }) },
			func(ctx context.Context) { p.renewSlipKey(ctx, r) },
		},
	})
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

// changed has a replica go by what the state says now.
func (p *process) changed(r *replica.Replica) {
	c := &p.stocks.now().Config
	if err := r.SetRouting(c.Dispatch.Routing); err != nil {
		p.Logger.Error("pods are chosen as before", "error", err)
	}
	if err := r.Dispatcher.Tune(c.Tuning()); err != nil {
		p.Logger.Error("limits stay as they were", "error", err)
	}
	p.watcher.Mark()
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
	var channels cache.ByObject
	if c.Channels != "" {
		channels.Namespaces = map[string]cache.Config{c.Channels: {}}
	}
	objects := map[client.Object]cache.ByObject{
		&v1alpha1.SidestepChannel{}: channels,
		&corev1.ConfigMap{}:         here(cache.Config{}),
		&corev1.Secret{}:            here(cache.Config{FieldSelector: fields.OneTermEqualSelector("metadata.name", c.TLSSecret)}),
	}
	maps.Copy(objects, pods.ByObject())
	return cache.New(c.API, cache.Options{
		Scheme:           scheme,
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject:         objects,
	})
}

// openStocks opens the backends and payload stores that are in effect.
func (p *process) openStocks(ctx context.Context, key []byte, registry prometheus.Registerer) (*secrets.Mirror, error) {
	direct, err := client.New(p.API, client.Options{Scheme: clientgoscheme.Scheme})
	mirror := &secrets.Mirror{Reader: direct, Namespace: p.Namespace, Dir: p.Secrets, Logger: p.Logger}
	servers := p.Servers
	if servers == nil {
		servers = &broker.Servers{Store: p.Store, Secrets: mirror, Pod: p.Pod, Logger: p.Logger}
	}
	p.stocks = newStocks(p.cache, p.Namespace, servers, p.Logger)
	if err != nil {
		return nil, err
	}
	keys, err := claimcheck.NewKeys(key)
	if err != nil {
		return nil, err
	}
	p.stocks.gauges(registry)
	return mirror, p.stocks.open(ctx, keys, telemetry.NewClaims(registry))
}

func (p *process) replica(ctx context.Context, registry *prometheus.Registry) (*replica.Replica, error) {
	c := replica.Config{
		Listen: p.Listen, ListenTLS: p.ListenTLS, Admin: p.Admin,
		Linger: p.Linger, Drain: p.Drain,
		Registry: registry,
		Logger:   p.Logger,
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

func (p *process) engine(key []byte, tracer channel.Tracer) (replica.Engine, error) {
	c := p.stocks.now().Config
	base := "http://" + p.Dispatcher
	if p.watcher.Features().IsStrictTransportEncryption() {
		base = "https://" + p.Dispatcher
	}
	payloads, err := p.stocks.payloads(base)
	if err != nil {
		return replica.Engine{}, err
	}
	slips, err := p.colocation.key()
	if err != nil {
		return replica.Engine{}, err
	}
	return replica.Engine{
		Backend: p.stocks.pool.Swap, Key: key,
		Claims: payloads, Links: p.stocks.stores.Room().Handler(),
		SlipKey: slips, Routing: c.Dispatch.Routing,
		Egress:             egress.Config{Token: p.gate.token, TLS: p.gate.clientTLS},
		MaxStructuredBytes: int(c.ClaimCheck.MaxStructuredBytes),
		Window:             c.Dispatch.MaxInFlight,
		ByteBudget:         c.Dispatch.ByteBudget,
		CheckpointAfter:    c.Dispatch.CheckpointAfter,
		Tracer:             tracer,
		Admit:              p.gate.admit(false), AdmitTLS: p.gate.admit(true),
	}, nil
}
