package inject

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sidestep-dev/sidestep/kube/ring"
)

// What is in the namespace of the installation. The Secrets are installed empty.
const (
	// SlipSecret has the key that dispatchers sign slips with, see ring.Slips:
	// they mount ring.Current.
	SlipSecret = "sidestep-slip-key"
	// CertificateSecret has the certificate of the webhook.
	CertificateSecret = "sidestep-injector-tls"
	// Configuration is the name of the MutatingWebhookConfiguration.
	Configuration = "sidestep-injector"
)

// keepEvery is how often keys are looked at: a small part of what a ring takes for a
// turn.
const keepEvery = 30 * time.Second

// Keeper renews the keys of sidecars and of the webhook, and tells those who have to
// trust them. Its fields are not changed once it is used.
type Keeper struct {
	// Client reads from the API server.
	Client client.Client
	// TrustCache has the ConfigMaps, see NewTrustCache; whoever makes it starts it.
	TrustCache cache.Cache
	// Namespace of the installation.
	Namespace string
	// Host of the webhook.
	Host string
	// Every is how often keys are looked at, Now the time. 0 and nil: half a
	// minute, and time.Now.
	Every  time.Duration
	Now    func() time.Time
	Logger *slog.Logger

	certificate atomic.Pointer[tls.Certificate]
	bundle      atomic.Pointer[[]byte]
	trusted     atomic.Pointer[string]
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (k *Keeper) NeedLeaderElection() bool { return false }

// Certificate is tls.Config.GetCertificate of the webhook's server.
func (k *Keeper) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := k.certificate.Load(); c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("the Secret %s has not been read yet", CertificateSecret)
}

// Load reads the keys, and renews those that are due.
func (k *Keeper) Load(ctx context.Context) error {
	return errors.Join(k.loadSlips(ctx), k.loadCertificate(ctx))
}

func (k *Keeper) loadSlips(ctx context.Context) error {
	r := ring.Slips()
	s, err := k.turn(ctx, SlipSecret, r)
	if err != nil {
		return err
	}
	keys, err := r.Trusted(s)
	if err != nil {
		return fmt.Errorf("read Secret %s: %w", SlipSecret, err)
	}
	text := string(keys)
	k.trusted.Store(&text)
	return nil
}

func (k *Keeper) loadCertificate(ctx context.Context) error {
	r := ring.Certificates(k.Host)
	s, err := k.turn(ctx, CertificateSecret, r)
	if err != nil {
		return err
	}
	c, err := ring.ParseCertificate(s.Data[ring.Current])
	if err != nil {
		return fmt.Errorf("read Secret %s: %w", CertificateSecret, err)
	}
	bundle, err := r.Trusted(s)
	if err != nil {
		return fmt.Errorf("read Secret %s: %w", CertificateSecret, err)
	}
	k.certificate.Store(c)
	k.bundle.Store(&bundle)
	return nil
}

// turn is a Secret after it was turned by us or by somebody else.
func (k *Keeper) turn(ctx context.Context, name string, r *ring.Ring) (*corev1.Secret, error) {
	for {
		s := new(corev1.Secret)
		if err := k.Client.Get(ctx, types.NamespacedName{Namespace: k.Namespace, Name: name}, s); err != nil {
			return nil, fmt.Errorf("look at Secret %s: %w", name, err)
		}
		changed, err := r.Turn(s, k.now())
		if err != nil {
			return nil, fmt.Errorf("renew Secret %s: %w", name, err)
		}
		if !changed {
			return s, nil
		}
		err = k.Client.Update(ctx, s)
		if apierrors.IsConflict(err) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("renew Secret %s: %w", name, err)
		}
		k.Logger.Info("a key is renewed", "secret", name, "next", len(s.Data[ring.Next]) > 0, "former", len(s.Data[ring.Former]) > 0)
		return s, nil
	}
}

func (k *Keeper) now() time.Time {
	if k.Now != nil {
		return k.Now()
	}
	return time.Now()
}

// Start keeps until ctx ends. Load should have succeeded.
func (k *Keeper) Start(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	poke := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	informer, err := k.TrustCache.GetInformer(ctx, &corev1.ConfigMap{})
	if err != nil {
		return fmt.Errorf("watch ConfigMaps: %w", err)
	}
	registered, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: poke, UpdateFunc: func(_, o any) { poke(o) },
	})
	if err != nil {
		return fmt.Errorf("watch ConfigMaps: %w", err)
	}
	defer informer.RemoveEventHandler(registered) //nolint:errcheck // the cache ends, too
	every := k.Every
	if every == 0 {
		every = keepEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := errors.Join(k.told(ctx), k.publish(ctx)); err != nil && ctx.Err() == nil {
			k.Logger.Error("those who should trust our keys cannot be told; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
			if err := k.Load(ctx); err != nil && ctx.Err() == nil {
				k.Logger.Error("keys cannot be renewed; going on with those that are there", "error", err)
			}
		}
	}
}

// told has the API server trust the webhook's certificate.
func (k *Keeper) told(ctx context.Context) error {
	bundle := k.bundle.Load()
	if bundle == nil {
		return nil
	}
	c := new(admissionregistrationv1.MutatingWebhookConfiguration)
	err := k.Client.Get(ctx, types.NamespacedName{Name: Configuration}, c)
	if apierrors.IsNotFound(err) {
		return nil // injection was not installed, or was turned off
	}
	if err != nil {
		return fmt.Errorf("look at MutatingWebhookConfiguration %s: %w", Configuration, err)
	}
	was := c.DeepCopy()
	same := true
	for i := range c.Webhooks {
		same = same && bytes.Equal(c.Webhooks[i].ClientConfig.CABundle, *bundle)
		c.Webhooks[i].ClientConfig.CABundle = *bundle
	}
	if same {
		return nil
	}
	p := client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{})
	if err := k.Client.Patch(ctx, c, p); err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("patch MutatingWebhookConfiguration %s: %w", Configuration, err)
	}
	return nil
}
