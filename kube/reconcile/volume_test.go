package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
	brokers "github.com/sidestep-dev/sidestep/internal/broker"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

func claim(class *string, phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "knative-eventing", Name: "data-sidestep-store-0"},
		Spec:       corev1.PersistentVolumeClaimSpec{StorageClassName: class},
		Status:     corev1.PersistentVolumeClaimStatus{Phase: phase},
	}
}

func storageClass(name, isDefault string) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{defaultClass: isDefault}}}
}

func TestAStoreWithoutAVolumeSaysWhatCanBeDone(t *testing.T) {
	fast, none := "fast", ""
	for name, tt := range map[string]struct {
		objects []client.Object
		want    string // "" for no opinion
	}{
		"no default class":     {[]client.Object{claim(nil, corev1.ClaimPending), storageClass("fast", "false")}, "no default one"},
		"no class at all":      {[]client.Object{claim(nil, corev1.ClaimPending)}, "kubectl annotate storageclass"},
		"a default class":      {[]client.Object{claim(nil, corev1.ClaimPending), storageClass("fast", "true")}, ""},
		"an unknown class":     {[]client.Object{claim(&fast, corev1.ClaimPending), storageClass("slow", "true")}, "asks for StorageClass fast"},
		"a class that is slow": {[]client.Object{claim(&fast, corev1.ClaimPending), storageClass("fast", "false")}, ""},
		"none wanted":          {[]client.Object{claim(&none, corev1.ClaimPending), storageClass("fast", "true")}, "without a StorageClass"},
		"bound":                {[]client.Object{claim(nil, corev1.ClaimBound)}, ""},
		"no claim yet":         {nil, ""},
	} {
		v := &Volumes{Client: fake.NewClientBuilder().WithObjects(tt.objects...).Build(), Namespace: "knative-eventing", Replicas: 1}
		err := v.Check(t.Context())
		if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, ErrNoVolume) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// unreachable cannot be opened; but for kafka.
type unreachable struct{ Servers }

func (unreachable) Open(_ context.Context, s brokers.Spec, _ *slog.Logger) (backend.Backend, error) {
	if s.Kind == manifest.BackendKafka {
		return membackend.New(membackend.Options{}), nil
	}
	return nil, backend.ErrUnavailable
}

func TestOnlyTheStoresOwnTroubleIsExplained(t *testing.T) {
	v := &Volumes{
		Client: fake.NewClientBuilder().WithObjects(claim(nil, corev1.ClaimPending)).Build(), Namespace: "knative-eventing", Replicas: 1,
	}
	s := v.Explain(unreachable{})
	for kind, explained := range map[string]bool{manifest.BackendEmbedded: true, manifest.BackendNATS: false} {
		_, err := s.Open(t.Context(), brokers.Spec{Kind: kind}, slog.New(slog.DiscardHandler))
		if !errors.Is(err, backend.ErrUnavailable) || errors.Is(err, ErrNoVolume) != explained {
			t.Errorf("%s: %v", kind, err)
		}
	}
	b, err := s.Open(t.Context(), brokers.Spec{Kind: manifest.BackendKafka}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
