package livetest

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sidestep-dev/sidestep/kube/reconcile"
)

// TestTheControllerMaySeeWhyTheStoreHasNoVolume: with the rights that it has.
func TestTheControllerMaySeeWhyTheStoreHasNoVolume(t *testing.T) {
	w := begin(t)
	w.roles()
	class := "does-not-exist"
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "data-sidestep-store-0"},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class,
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	err := w.client.Create(t.Context(), claim)
	if apierrors.IsAlreadyExists(err) {
		t.Skip("Sidestep is installed here: its store's claim is left alone")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.client.Delete(context.Background(), claim) })
	c, err := client.New(w.as("sidestep-controller"), client.Options{Scheme: scheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	v := &reconcile.Volumes{Client: c, Namespace: system, Replicas: 1}
	if err := v.Check(t.Context()); !errors.Is(err, reconcile.ErrNoVolume) || !strings.Contains(err.Error(), class) {
		t.Errorf("got %v", err)
	}
}
