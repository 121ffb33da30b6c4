package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sidestep-dev/sidestep/channel/backend"
	brokers "github.com/sidestep-dev/sidestep/internal/broker"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// ErrNoVolume is why the store that comes with Sidestep does not start. It never keeps
// records where they are gone with its pod, and waits for a volume instead.
var ErrNoVolume = errors.New("the store sidestep-store has no volume")

// defaultClass is on the StorageClass that claims get which name none.
const defaultClass = "storageclass.kubernetes.io/is-default-class"

// lookTimeout bounds a look at volumes, after something else has failed.
const lookTimeout = 5 * time.Second

// Volumes tells what keeps the store from starting.
type Volumes struct {
	// Client reads from the API server.
	Client client.Reader
	// Namespace of the installation.
	Namespace string
	// Replicas of the store.
	Replicas int
}

// Check returns an error that wraps ErrNoVolume, and says what can be done, if a claim
// of the store's waits for something that will not come by itself.
func (v *Volumes) Check(ctx context.Context) error {
	for i := range v.Replicas {
		claim := new(corev1.PersistentVolumeClaim)
		key := types.NamespacedName{Namespace: v.Namespace, Name: fmt.Sprint("data-sidestep-store-", i)}
		if err := v.Client.Get(ctx, key, claim); err != nil {
			return nil // then it is something else
		}
		if claim.Status.Phase == corev1.ClaimBound {
			continue
		}
		var classes storagev1.StorageClassList
		if err := v.Client.List(ctx, &classes); err != nil {
			return nil
		}
		if why := waitsFor(claim, classes.Items); why != "" {
			return fmt.Errorf("%w: PersistentVolumeClaim %s %s; or use another backend: set backend to nats or kafka in config-sidestep",
				ErrNoVolume, key, why)
		}
	}
	return nil
}

// waitsFor is what a claim that is not bound waits for in vain, and what can be done;
// "" if it may come.
func waitsFor(claim *corev1.PersistentVolumeClaim, classes []storagev1.StorageClass) string {
	switch name := claim.Spec.StorageClassName; {
	case name == nil && !slices.ContainsFunc(classes, isDefault):
		return "names no StorageClass, and the cluster has no default one: make one the default (kubectl annotate storageclass NAME " +
			defaultClass + "=true), or make a PersistentVolume that fits"
	case name != nil && *name == "":
		return `asks for a PersistentVolume without a StorageClass, and there is none that fits: make one`
	case name != nil && !slices.ContainsFunc(classes, func(c storagev1.StorageClass) bool { return c.Name == *name }):
		return fmt.Sprintf("asks for StorageClass %s, which does not exist: make it, or delete the claim and name another one in the StatefulSet", *name)
	}
	return ""
}

func isDefault(c storagev1.StorageClass) bool { return c.Annotations[defaultClass] == "true" }

// Explain has servers say what keeps the store from starting when it cannot be reached.
func (v *Volumes) Explain(s Servers) Servers { return explaining{s, v} }

type explaining struct {
	Servers
	volumes *Volumes
}

// Open implements Servers.
func (e explaining) Open(ctx context.Context, s brokers.Spec, logger *slog.Logger) (backend.Backend, error) {
	b, err := e.Servers.Open(ctx, s, logger)
	if err == nil || s.Kind != manifest.BackendEmbedded {
		return b, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	if why := e.volumes.Check(ctx); why != nil {
		return nil, fmt.Errorf("%w (%w)", why, err)
	}
	return nil, err
}
