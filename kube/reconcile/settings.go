package reconcile

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/eventing/pkg/apis/feature"
	"knative.dev/eventing/pkg/eventingtls"

	"github.com/sidestep-dev/sidestep/channel/backend/swapbackend"
	"github.com/sidestep-dev/sidestep/kube/broker"
	"github.com/sidestep-dev/sidestep/kube/watch"
)

// ServerTLS is the Secret with the certificate of the dispatchers.
const ServerTLS = "sidestep-dispatcher-server-tls"

// Settings are what ConfigMaps say, as far as they can be used.
type Settings struct {
	// Starting: it is not known yet what is in effect.
	Starting bool
	// State is what of config-sidestep is in effect.
	State *broker.State
	// Problem is why it is not the present one, or nil.
	Problem  error
	Features feature.Flags
}

// Settings are those in effect: a config-sidestep that cannot be used, or names what
// cannot be reached, leaves the one before.
func (s *System) Settings(ctx context.Context) (Settings, error) {
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
	return Settings{Starting: !s.started, State: s.state, Problem: s.problem, Features: flags}, nil
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

// Backend is made of those in effect; there is an error until some are.
func (s *System) Backend(context.Context) (*swapbackend.Backend, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.state.Empty():
		return s.pool.Swap, nil
	case s.problem != nil:
		// To guess which one is meant would put events where nobody looks.
		return nil, s.problem
	}
	return nil, errStarting
}
