// Command controller reconciles SidestepChannels: it makes and removes their logs,
// their groups and their Services, and writes their status.
//
// main only wires: what it starts is in kube/reconcile.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	eventingv1alpha1 "knative.dev/eventing/pkg/apis/eventing/v1alpha1"
	"knative.dev/pkg/network"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/internal/telemetry"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
	"github.com/sidestep-dev/sidestep/kube/broker"
	"github.com/sidestep-dev/sidestep/kube/inject"
	"github.com/sidestep-dev/sidestep/kube/reconcile"
	"github.com/sidestep-dev/sidestep/kube/secrets"
)

// Exit statuses.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

func main() { os.Exit(run(ctrl.SetupSignalHandler(), os.Args[1:], os.Stderr)) }

// options are the flags.
type options struct {
	namespace, dispatcher, storeURL, passwordFile string
	secrets                                       string
	health, metrics, adminPort                    string
	sidecarImage                                  string
	webhookPort                                   int
	storeReplicas                                 int
	leaderElection                                bool
	logger                                        *slog.Logger
}

func run(ctx context.Context, args []string, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintln(stderr, "controller:", err)
		return exitUsage
	}
	if err := serve(ctx, o); err != nil {
		fmt.Fprintln(stderr, "controller:", err)
		return exitError
	}
	return exitOK
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("controller", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.namespace, "namespace", "knative-eventing", "`NAMESPACE` of the installation")
	f.StringVar(&o.dispatcher, "dispatcher-service", "sidestep-dispatcher", "`NAME` of the dispatchers' Service")
	f.StringVar(&o.adminPort, "dispatcher-admin-port", "9090", "`PORT` of the dispatchers' admin servers")
	f.StringVar(&o.storeURL, "store", "nats://sidestep-store:4222", "`URL` of the store, for backend embedded")
	f.StringVar(&o.passwordFile, "store-password-file", "/etc/sidestep/store/password", "`FILE` with what clients of the store show")
	f.IntVar(&o.storeReplicas, "store-replicas", 1, "copies of each record in the store: 1 or 3")
	f.StringVar(&o.secrets, "secrets", "/run/sidestep", "`FOLDER` in memory for the Secrets that config-sidestep names")
	f.StringVar(&o.health, "health", ":8081", "`ADDRESS` of /healthz and /readyz")
	f.StringVar(&o.metrics, "metrics", ":9090", "`ADDRESS` of /metrics, 0 for none")
	f.StringVar(&o.sidecarImage, "sidecar-image", os.Getenv("SIDECAR_IMAGE"),
		"`IMAGE` of the sidecar that is put into pods that ask for one (default $SIDECAR_IMAGE; without one, none is)")
	f.IntVar(&o.webhookPort, "webhook-port", 9443, "`PORT` of the webhook that does so")
	f.BoolVar(&o.leaderElection, "leader-election", true, "let one of several controllers work at a time")
	level := f.String("log-level", "info", "least `LEVEL` that is logged: debug, info, warn or error")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(strings.ToUpper(*level))); err != nil {
		return o, fmt.Errorf("--log-level is %q: want debug, info, warn or error", *level)
	}
	o.logger = slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: l}))
	return o, nil
}

func serve(ctx context.Context, o options) (err error) {
	ctrl.SetLogger(logr.FromSlogHandler(o.logger.Handler()))
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 200, 400 // a thousand channels at once are no attack
	keeper := new(inject.Keeper)
	m, err := newManager(config, o, webhookServer(o.webhookPort, keeper))
	if err != nil {
		return err
	}
	direct, err := client.New(config, client.Options{Scheme: m.GetScheme()})
	if err != nil {
		return err
	}
	if err := reconcile.FillSecrets(ctx, direct, o.namespace); err != nil {
		return err
	}
	if err := addInjection(ctx, m, direct, keeper, o); err != nil {
		return err
	}
	key, err := reconcile.ReadKey(ctx, direct, o.namespace)
	if err != nil {
		return err
	}
	keys, err := claimcheck.NewKeys(key)
	if err != nil {
		return err
	}
	mirror := &secrets.Mirror{Reader: direct, Namespace: o.namespace, Dir: o.secrets, Logger: o.logger}
	roll := reconcile.NewRoll(m.GetClient(), o.namespace, dispatcherLabels(), o.adminPort, o.logger)
	recorder := m.GetEventRecorder("sidestep")
	volumes := &reconcile.Volumes{Client: direct, Namespace: o.namespace, Replicas: o.storeReplicas}
	system := &reconcile.System{
		Reader: m.GetClient(), Client: direct, Namespace: o.namespace, Keys: keys, Roll: roll, Events: recorder, Logger: o.logger,
		Servers: volumes.Explain(&broker.Servers{
			Store:   broker.Store{URL: o.storeURL, PasswordFile: o.passwordFile, Replicas: o.storeReplicas},
			Secrets: mirror, Logger: o.logger,
		}),
	}
	system.Prepare()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, system.Close(ctx))
	}()
	r := &reconcile.Reconciler{
		Client: m.GetClient(), Direct: m.GetAPIReader(),
		Backend: system.Backend, Settings: system.Settings, CACerts: system.CACerts,
		Roll: roll, Changed: system.Changed(), Events: recorder, Discarded: telemetry.NewDiscarded(),
		Dispatcher:    network.GetServiceHostname(o.dispatcher, o.namespace),
		ClusterDomain: network.GetClusterDomainName(),
	}
	metrics.Registry.MustRegister(r.Discarded)
	if err := r.SetupWithManager(m); err != nil {
		return err
	}
	refresh := manager.RunnableFunc(func(ctx context.Context) error { mirror.Run(ctx); return nil })
	if err := errors.Join(m.Add(system), m.Add(refresh)); err != nil {
		return err
	}
	if err := m.Add(&reconcile.Uninstall{Client: direct, Namespace: o.namespace, Logger: o.logger}); err != nil {
		return err
	}
	return m.Start(ctx)
}

func dispatcherLabels() map[string]string {
	return map[string]string{"app.kubernetes.io/name": "sidestep", "app.kubernetes.io/component": "dispatcher"}
}

// newManager makes a manager that keeps in memory what is needed and no more.
func newManager(config *rest.Config, o options, hooks webhook.Server) (manager.Manager, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, v1alpha1.AddToScheme, eventingv1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	here := func(c cache.Config) cache.ByObject {
		return cache.ByObject{Namespaces: map[string]cache.Config{o.namespace: c}}
	}
	m, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme,
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject: map[client.Object]cache.ByObject{
				&corev1.ConfigMap{}: here(cache.Config{}),
				&corev1.Pod{}:       here(cache.Config{LabelSelector: labels.SelectorFromSet(dispatcherLabels())}),
				&corev1.Secret{}:    here(cache.Config{FieldSelector: fields.OneTermEqualSelector("metadata.name", reconcile.ServerTLS)}),
				&corev1.Service{}:   {Label: labels.SelectorFromSet(reconcile.ServiceLabels())},
			},
		},
		LeaderElection:                o.leaderElection,
		LeaderElectionID:              "sidestep-controller",
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionReleaseOnCancel: true,
		HealthProbeBindAddress:        o.health,
		Metrics:                       metricsserver.Options{BindAddress: o.metrics},
		WebhookServer:                 hooks,
	})
	if err != nil {
		return nil, err
	}
	return m, errors.Join(m.AddHealthzCheck("ping", healthz.Ping), m.AddReadyzCheck("ping", healthz.Ping))
}
