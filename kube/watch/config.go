package watch

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// The ConfigMaps in the system namespace that are read.
const (
	ConfigName        = "config-sidestep"
	FeaturesName      = "config-features"
	ObservabilityName = "config-observability"
)

// Config is what config-sidestep or config-observability says, decoded by the same code as
// a file of a standalone process; nil is the default. The error is of type
// manifest.Problems.
func Config(cm *corev1.ConfigMap) (manifest.Config, error) {
	if cm == nil {
		cm = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: ConfigName}}
	}
	b, err := json.Marshal(map[string]any{
		"apiVersion": "v1",
		"kind":       "ConfigMap",
		"metadata":   map[string]string{"name": cm.Name},
		"data":       cm.Data,
	})
	if err != nil {
		return manifest.Config{}, fmt.Errorf("read %s: %w", cm.Name, err)
	}
	set, err := manifest.ParseOnCluster(cm.Name, b)
	if err != nil {
		return manifest.Config{}, err
	}
	return set.Config, nil
}
