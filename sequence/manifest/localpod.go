package manifest

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sidestep-dev/sidestep/sequence"
)

// localPodKind is a pod of this machine: a sidecar, and the steps that it may call.
const (
	localPodKind    = "LocalPod"
	localPodVersion = "sidestep.dev/v1alpha1"
)

// LocalPod is a sidecar and the steps beside it. Several may hold the same
// Services: they are replicas.
type LocalPod struct {
	Namespace, Name string
	// Sidecar is http://HOST:PORT.
	Sidecar string
	// Zone is "" if it does not say; Weight is then 1.
	Zone   string
	Weight int
	Steps  []LocalStep
}

// LocalStep is a Service's port on the loopback address of a LocalPod.
type LocalStep struct {
	Service string // in the namespace of the LocalPod
	Port    uint16
}

// maxWeight bounds a LocalPod's weight.
const maxWeight = 1000

// decodeLocalPod takes in a LocalPod.
func (d *document) decodeLocalPod(root value) {
	d.decodeMeta(root, subdomainName())
	root.require("spec")
	p := LocalPod{Namespace: d.meta.namespace, Name: d.meta.name, Weight: 1}
	root.object(d.fields(fields{"spec": func(v value) {
		v.require("sidecar", "steps")
		v.object(fields{
			"sidecar": func(v value) { p.Sidecar = sidecarURL(v) },
			"zone":    func(v value) { p.Zone = v.str() },
			"weight":  func(v value) { p.Weight = int(v.integer(1, maxWeight)) },
			"steps":   func(v value) { d.localSteps(v, &p) },
		})
	}}))
	d.load.set.pods = append(d.load.set.pods, p)
}

// sidecarURL is the URL of a sidecar, "" after a report.
func sidecarURL(v value) string {
	s := checkedAddress(v, v.str())
	if s != "" && !strings.HasPrefix(s, "http://") {
		v.problem("want http://HOST:PORT, got %q", v.text())
		return ""
	}
	return s
}

func (d *document) localSteps(v value, p *LocalPod) {
	lines := make(map[string]int)
	v.nonEmptyList(func(item value) {
		item.require("service", "port")
		var step LocalStep
		serviceAt := item
		item.object(fields{
			"service": func(v value) { serviceAt, step.Service = v, v.str() },
			"port":    func(v value) { step.Port = uint16(v.integer(1, 65535)) },
		})
		if step.Service == "" {
			return
		}
		if first, twice := lines[step.Service]; twice {
			serviceAt.problem("is there twice; first on line %d", first)
			return
		}
		lines[step.Service] = serviceAt.line
		p.Steps = append(p.Steps, step)
		key := objectKey{serviceKind, p.Namespace, step.Service}
		d.load.checks = append(d.load.checks, func(ix *index) {
			if place := ix.find(sequence.Ref{APIVersion: "v1", Kind: serviceKind, Name: key.name}, key.namespace); place.why != nil {
				serviceAt.problem("%s", place.why.message)
			}
		})
	})
}

// LocalPods are those declared, in the order of namespaces and names.
func (s *Set) LocalPods() []LocalPod {
	pods := slices.Clone(s.pods)
	slices.SortFunc(pods, func(a, b LocalPod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return pods
}

// ColocatedServices are the addresses, http://HOST:PORT, of the Services whose
// steps may be called through a sidecar, by "namespace/name": of all that have
// an address and did not opt out.
func (s *Set) ColocatedServices() map[string]string {
	all := make(map[string]string)
	for _, key := range slices.SortedFunc(maps.Keys(s.services), func(a, b objectKey) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	}) {
		if svc := s.services[key]; svc.address != "" && !svc.apart {
			all[key.namespace+"/"+key.name] = svc.address
		}
	}
	return all
}

// colocated reads the annotation by which a Service opts out.
func colocated(at value, s string) bool {
	switch s {
	case "true":
	case "false":
		return false
	default:
		at.problem("want true or false in quotes, got %s", strconv.Quote(s))
	}
	return true
}
