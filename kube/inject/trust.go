package inject

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
)

// The ConfigMap with the keys that sidecars trust, in each namespace that has some.
const (
	TrustName = "sidestep-trust"
	TrustKey  = "keys.pem"
)

// crdName is what owns these ConfigMaps: they go with it, when Sidestep does.
const crdName = v1alpha1.Resource + "." + v1alpha1.Group

// NewTrustCache makes the cache of these ConfigMaps: of all namespaces, and of this name
// alone, which is also all that our role lets us see.
func NewTrustCache(config *rest.Config, scheme *runtime.Scheme) (cache.Cache, error) {
	c, err := cache.New(config, cache.Options{Scheme: scheme, ByObject: map[client.Object]cache.ByObject{
		&corev1.ConfigMap{}: {
			Field:     fields.OneTermEqualSelector("metadata.name", TrustName),
			Transform: cache.TransformStripManagedFields(),
		},
	}})
	return everywhere{c}, err
}

// everywhere is a cache that a manager starts whether it leads or not: pods are let in by
// each replica. Without a word a manager takes it for a leader's.
type everywhere struct{ cache.Cache }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (everywhere) NeedLeaderElection() bool { return false }

// Trust has the keys published in a namespace.
func (k *Keeper) Trust(ctx context.Context, namespace string) error {
	keys := k.trusted.Load()
	if keys == nil {
		return fmt.Errorf("the Secret %s has not been read yet", SlipSecret)
	}
	cm := new(corev1.ConfigMap)
	err := k.TrustCache.Get(ctx, types.NamespacedName{Namespace: namespace, Name: TrustName}, cm)
	if err == nil {
		return k.update(ctx, cm, *keys)
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("look at ConfigMap %s: %w", TrustName, err)
	}
	cm = &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: TrustName,
			Labels:          map[string]string{v1alpha1.RoleLabel: "trust", "app.kubernetes.io/name": "sidestep"},
			OwnerReferences: k.owner(ctx),
		},
		Data: map[string]string{TrustKey: *keys},
	}
	// Somebody else was faster, or our cache is behind: then it is filled soon.
	if err := k.Client.Create(ctx, cm); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make ConfigMap %s: %w", TrustName, err)
	}
	return nil
}

// update puts the keys into one that exists.
func (k *Keeper) update(ctx context.Context, cm *corev1.ConfigMap, keys string) error {
	if cm.Data[TrustKey] == keys || !cm.DeletionTimestamp.IsZero() {
		return nil
	}
	cm = cm.DeepCopy()
	if cm.Data == nil {
		cm.Data = make(map[string]string)
	}
	cm.Data[TrustKey] = keys
	// After a conflict there is a newer one, and we are told of it.
	if err := k.Client.Update(ctx, cm); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return fmt.Errorf("fill ConfigMap %s: %w", TrustName, err)
	}
	return nil
}

// owner is the CRD: whatever is made in users' namespaces is gone with it. Without it,
// as in a test, nobody is.
func (k *Keeper) owner(ctx context.Context) []metav1.OwnerReference {
	crd := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"}}
	if err := k.Client.Get(ctx, types.NamespacedName{Name: crdName}, crd); err != nil {
		k.Logger.Warn("a ConfigMap is made that stays when Sidestep is uninstalled", "error", err)
		return nil
	}
	return []metav1.OwnerReference{{APIVersion: crd.APIVersion, Kind: crd.Kind, Name: crd.Name, UID: crd.UID}}
}

// publish puts the keys into all of these ConfigMaps that exist.
func (k *Keeper) publish(ctx context.Context) error {
	keys := k.trusted.Load()
	if keys == nil {
		return nil
	}
	var all corev1.ConfigMapList
	if err := k.TrustCache.List(ctx, &all); err != nil {
		return fmt.Errorf("list ConfigMaps %s: %w", TrustName, err)
	}
	var first error
	for i := range all.Items {
		if err := k.update(ctx, &all.Items[i], *keys); err != nil && first == nil {
			first = fmt.Errorf("namespace %s: %w", all.Items[i].Namespace, err)
		}
	}
	return first
}
