package reconcile

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// sinks turns destinations into addresses, by the rules of Knative's resolver.
type sinks struct {
	// reader reads objects of any kind; not from a cache, which would watch
	// each kind that was ever asked for.
	reader client.Reader
	domain string
}

func (s sinks) resolve(ctx context.Context, d *duckv1.Destination, namespace string) (*duckv1.Addressable, error) {
	if d.Ref == nil {
		if d.URI == nil || !d.URI.URL().IsAbs() || d.URI.Host == "" {
			return nil, errors.New("want a ref, or a uri with a scheme and a host")
		}
		return &duckv1.Addressable{URL: d.URI, CACerts: d.CACerts, Audience: d.Audience}, nil
	}
	if d.URI != nil && d.URI.URL().IsAbs() {
		return nil, errors.New("uri: is absolute, beside a ref: want it relative to what the ref resolves to")
	}
	ref := *d.Ref
	if ref.Namespace == "" {
		ref.Namespace = namespace
	}
	found, err := s.find(ctx, &ref)
	if err != nil {
		return nil, err
	}
	a, err := s.address(&ref, d, found)
	if err != nil {
		return nil, err
	}
	if d.URI != nil {
		a.URL = a.URL.ResolveReference(d.URI)
	}
	if d.CACerts != nil && *d.CACerts != "" {
		a.CACerts = d.CACerts
	}
	if d.Audience != nil && *d.Audience != "" {
		a.Audience = d.Audience
	}
	return a, nil
}

func (s sinks) find(ctx context.Context, ref *duckv1.KReference) (*unstructured.Unstructured, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil || ref.Kind == "" || ref.Name == "" {
		return nil, fmt.Errorf("ref: want apiVersion, kind and name, got %q, %q and %q", ref.APIVersion, ref.Kind, ref.Name)
	}
	var u unstructured.Unstructured
	u.SetGroupVersionKind(gv.WithKind(ref.Kind))
	err = s.reader.Get(ctx, types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}, &u)
	switch {
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("ref: may not read %s %s/%s; a ClusterRole with the label duck.knative.dev/addressable=true allows it",
			ref.Kind, ref.Namespace, ref.Name)
	case err != nil:
		return nil, fmt.Errorf("ref: %w", err)
	}
	return &u, nil
}

func (s sinks) address(ref *duckv1.KReference, d *duckv1.Destination, u *unstructured.Unstructured) (*duckv1.Addressable, error) {
	if ref.APIVersion == "v1" && ref.Kind == "Service" {
		url := apis.HTTP(ref.Name + "." + ref.Namespace + ".svc." + s.domain)
		if d.CACerts != nil && *d.CACerts != "" {
			url.Scheme = "https"
		}
		return &duckv1.Addressable{Name: ref.Address, URL: url}, nil
	}
	var t duckv1.AddressableType
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &t); err != nil {
		return nil, fmt.Errorf("ref: %s %s/%s: %w", ref.Kind, ref.Namespace, ref.Name, err)
	}
	a := selectAddress(&t, ref.Address)
	if a == nil || a.URL == nil || a.URL.Host == "" {
		return nil, fmt.Errorf("ref: %s %s/%s has no address yet", ref.Kind, ref.Namespace, ref.Name)
	}
	return a.DeepCopy(), nil
}

// selectAddress is the one with the name, if one is asked for, or the first.
func selectAddress(t *duckv1.AddressableType, name *string) *duckv1.Addressable {
	all := t.Status.Addresses
	if name != nil && *name != "" {
		for i := range all {
			if all[i].Name != nil && *all[i].Name == *name {
				return &all[i]
			}
		}
		return nil
	}
	if len(all) > 0 {
		return &all[0]
	}
	return t.Status.Address
}
