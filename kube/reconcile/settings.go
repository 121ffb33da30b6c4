package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/eventing/pkg/apis/feature"
	"knative.dev/eventing/pkg/eventingtls"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/kube/broker"
	"github.com/sidestep-dev/sidestep/kube/watch"
)

// ServerTLS is the Secret with the certificate of the dispatchers.
const ServerTLS = "sidestep-dispatcher-server-tls"

// System is what is read of the system namespace, and the backend that is named
// there. Its methods may be called from any goroutine.
type System struct {
	Reader    client.Reader
	Namespace string
	// Store says how the store that comes with Sidestep is reached.
	Store  broker.Store
	Logger *slog.Logger

	mu       sync.Mutex // guards what follows
	source   *corev1.ConfigMap
	settings Settings // the last, with a Config that could be used
	open     backend.Backend
}

// Settings are those in effect: a config-sidestep that cannot be used leaves the
// one before.
func (s *System) Settings(ctx context.Context) (Settings, error) {
	config, err := s.configMap(ctx, watch.ConfigName)
	if err != nil {
		return Settings{}, err
	}
	features, err := s.configMap(ctx, watch.FeaturesName)
	if err != nil {
		return Settings{}, err
	}
	var data map[string]string
	if features != nil {
		data = features.Data
	}
	flags, err := feature.NewFlagsConfigFromMap(data)
	if err != nil {
		return Settings{}, fmt.Errorf("read %s: %w", watch.FeaturesName, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settings.Config.Backend == "" || version(config) != version(s.source) {
		s.read(config)
	}
	s.settings.Features = flags
	return s.settings, nil
}

func version(cm *corev1.ConfigMap) string {
	if cm == nil {
		return ""
	}
	return string(cm.UID) + "/" + cm.ResourceVersion
}

// read is called with s.mu held.
func (s *System) read(config *corev1.ConfigMap) {
	s.source = config
	c, err := watch.Config(config)
	if err != nil {
		s.Logger.Error("config-sidestep cannot be used; going on with the last one that could", "error", err)
		s.settings.Problem = err
		return
	}
	s.settings.Config, s.settings.Problem = c, nil
}

// configMap is nil if there is none.
func (s *System) configMap(ctx context.Context, name string) (*corev1.ConfigMap, error) {
	cm := new(corev1.ConfigMap)
	err := s.Reader.Get(ctx, types.NamespacedName{Namespace: s.Namespace, Name: name}, cm)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return cm, nil
}

// CACerts are those that a client of the dispatchers has to trust, nil where it is
// what everybody trusts.
func (s *System) CACerts(ctx context.Context) (*string, error) {
	secret := new(corev1.Secret)
	if err := s.Reader.Get(ctx, types.NamespacedName{Namespace: s.Namespace, Name: ServerTLS}, secret); err != nil {
		return nil, fmt.Errorf("certificate of the dispatchers: %w; with transport-encryption on, the Secret %s is needed", err, ServerTLS)
	}
	ca, ok := secret.Data[eventingtls.SecretCACert]
	if !ok {
		return nil, nil
	}
	text := string(ca)
	return &text, nil
}

// Backend is that of the settings at the first call that succeeds; the error wraps
// backend.ErrUnavailable while it cannot be reached.
func (s *System) Backend(ctx context.Context) (backend.Admin, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open != nil {
		return s.open, nil
	}
	if s.settings.Config.Backend == "" {
		// To guess which one is meant would put events where nobody looks.
		return nil, fmt.Errorf("config-sidestep cannot be used: %w", s.settings.Problem)
	}
	b, err := broker.Open(ctx, s.settings.Config, s.Store, s.Logger)
	if err != nil {
		return nil, err
	}
	s.open = b
	return b, nil
}

// Close closes the backend.
func (s *System) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return nil
	}
	return errors.Join(s.open.Close(ctx))
}
