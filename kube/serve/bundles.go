package serve

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// bundles lists the ConfigMaps of the system namespace to Knative's code, which
// looks for those with certificates that everybody trusts.
type bundles struct {
	reader    client.Reader
	namespace string
}

// List implements corev1listers.ConfigMapNamespaceLister. It reads from memory.
func (b bundles) List(selector labels.Selector) ([]*corev1.ConfigMap, error) {
	var list corev1.ConfigMapList
	err := b.reader.List(context.TODO(), &list, client.InNamespace(b.namespace), client.MatchingLabelsSelector{Selector: selector})
	if err != nil {
		return nil, err
	}
	out := make([]*corev1.ConfigMap, len(list.Items))
	for i := range list.Items {
		out[i] = &list.Items[i]
	}
	return out, nil
}

// Get implements corev1listers.ConfigMapNamespaceLister.
func (b bundles) Get(name string) (*corev1.ConfigMap, error) {
	cm := new(corev1.ConfigMap)
	return cm, b.reader.Get(context.TODO(), types.NamespacedName{Namespace: b.namespace, Name: name}, cm)
}
