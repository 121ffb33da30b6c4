package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// An API server takes its time, and lets nobody do anything whose rights are gone. Some
// requests fail at first.
func TestNothingThatIsUninstalledIsLeftBehind(t *testing.T) {
	u := &Uninstall{Namespace: "knative-eventing", Logger: slog.New(slog.DiscardHandler)}
	leaves, deployment, rights := u.own()
	var objects []client.Object
	all := append(append(leaves, deployment), rights...)
	for _, o := range all {
		o.SetFinalizers([]string{Uninstalling})
		o.SetDeletionTimestamp(&metav1.Time{Time: time.Now()})
		objects = append(objects, o)
	}
	needed := map[string]bool{}
	for _, o := range rights {
		needed[o.GetKind()] = true
	}
	var mu sync.Mutex
	withoutRights, failed := false, map[string]bool{}
	u.Client = interceptor.NewClient(fake.NewClientBuilder().WithScheme(runtime.NewScheme()).WithObjects(objects...).Build(), interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			kind := o.GetObjectKind().GroupVersionKind().Kind
			if !needed[kind] {
				time.Sleep(20 * time.Millisecond) // long after those that were asked for with it
			}
			mu.Lock()
			refused, first := withoutRights, !failed[kind] && !needed[kind]
			failed[kind] = true
			mu.Unlock()
			switch {
			case refused:
				return apierrors.NewForbidden(schema.GroupResource{Resource: kind}, o.GetName(), errors.New("no right"))
			case first:
				return apierrors.NewTimeoutError("busy", 1)
			case needed[kind]:
				time.Sleep(50 * time.Millisecond) // until it takes effect
				mu.Lock()
				withoutRights = true
				mu.Unlock()
			}
			return c.Patch(ctx, o, p, opts...)
		},
	})
	for range 2 * len(all) {
		_ = u.look(t.Context()) // says what is tried again
	}
	for _, o := range all {
		left := &unstructured.Unstructured{}
		left.SetGroupVersionKind(o.GroupVersionKind())
		if err := u.Client.Get(t.Context(), client.ObjectKeyFromObject(o), left); !apierrors.IsNotFound(err) {
			t.Errorf("%s is left behind (%v)", o.GetKind(), err)
		}
	}
}
