package pods

import (
	"maps"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/sidestep-dev/sidestep/colocate"
)

// How a sidecar is known in a Pod.
const (
	// Container is the name of the init container that is the sidecar.
	Container = "sidestep"
	// PortName is the name of its port that takes chains, where it has several.
	PortName = "sidestep"
)

// What annotations mean something to dispatchers.
const (
	// ColocateAnnotation of a Service is "false" if its steps must be called by
	// its address.
	ColocateAnnotation = "sidestep.dev/colocate"
	// PayloadAnnotation of a Service is "reference" if it takes large payloads
	// by reference, or "value".
	PayloadAnnotation = "sidestep.dev/payload"
	// StepsAnnotation of a Knative Service names its steps and their ports, such as
	// "resize=9101,caption=9102"; it hands its annotations on to the Service that is
	// its address.
	StepsAnnotation = "sidestep.dev/steps"
	// WeightAnnotation of a Pod is its share of the work, 1 to 1000, where pods
	// are chosen by weight. 1 without it.
	WeightAnnotation = "sidestep.dev/weight"
)

// maxWeight bounds WeightAnnotation.
const maxWeight = 1000

// revisionLabel is on the pods of a Knative Service, and routeLabel on the Service that
// is its address.
const (
	revisionLabel = "serving.knative.dev/revision"
	routeLabel    = "serving.knative.dev/route"
)

// podKind is what the endpoints are of a Service with a selector.
const podKind = "Pod"

// sliceController makes the EndpointSlices of a Service with a selector.
const sliceController = "endpointslice-controller.k8s.io"

// Objects are what the API server has. They are not changed.
type Objects struct {
	Services []*corev1.Service
	Slices   []*discoveryv1.EndpointSlice
	Pods     []*corev1.Pod
}

// Found is what Objects say. It is not changed once it is made, and has nothing of
// Kubernetes in it.
type Found struct {
	// Map says which steps may be called in which pods. The zone of a pod, and of
	// the process, is that of its node.
	Map *colocate.Map
	// Refusals are why pods with a sidecar are not in Map although they look
	// as if they were meant to be, and annotations that cannot be used.
	Refusals []Refusal

	references map[string]bool // hosts
}

// Refusal is why something is left out.
type Refusal struct {
	// Object is "service namespace/name" or "pod namespace/name".
	Object string
	Why    string
}

// ByReference tells whether a subscriber takes large payloads by reference: whether
// its URL names a Service that says so.
func (f *Found) ByReference(address string) bool {
	if f == nil || len(f.references) == 0 {
		return false
	}
	u, err := url.Parse(address)
	return err == nil && f.references[strings.ToLower(u.Hostname())]
}

// SameReferences tells whether both say the same of who takes payloads by reference.
func (f *Found) SameReferences(g *Found) bool {
	var a, b map[string]bool
	if f != nil {
		a = f.references
	}
	if g != nil {
		b = g.references
	}
	return maps.Equal(a, b)
}
