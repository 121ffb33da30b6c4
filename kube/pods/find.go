package pods

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/sidestep-dev/sidestep/colocate"
)

// Find makes of objects what dispatchers go by. domain ends the host names of
// Services, "" means cluster.local; self is the pod of the process, as
// "namespace/name". The order of objects does not matter.
func Find(o Objects, domain, self string) *Found {
	f := finder{
		self:     self,
		domain:   strings.ToLower(cmp.Or(domain, "cluster.local")),
		services: make(map[string]*corev1.Service, len(o.Services)),
		carriers: make(map[string]*carrier),
		named:    make(map[string][]string),
		found:    &Found{Map: new(colocate.Map), references: make(map[string]bool)},
	}
	for _, s := range o.Services {
		f.services[key(s.Namespace, s.Name)] = s
		f.payload(s)
		f.knative(s)
	}
	for _, p := range o.Pods {
		f.pod(p)
	}
	for _, s := range o.Slices {
		f.slice(s)
	}
	return f.finish()
}

func key(namespace, name string) string { return namespace + "/" + name }

type finder struct {
	self      string
	domain    string
	services  map[string]*corev1.Service
	carriers  map[string]*carrier // pods with a sidecar that may be used
	named     map[string][]string // hosts, by the name of a colocate.Service
	revisions []colocate.Pod      // each stands for the pods of a Knative Service
	refused   map[Refusal]bool
	found     *Found
}

// carrier is a pod that steps may be called in.
type carrier struct {
	pod     *corev1.Pod
	sidecar int32 // port
	out     colocate.Pod
	// torn are the services for which there are two ports: one of them is of a
	// moment that is over.
	torn map[string]bool
}

// refuse notes why something is left out, once.
func (f *finder) refuse(kind, namespace, name, format string, args ...any) {
	r := Refusal{Object: kind + " " + key(namespace, name), Why: fmt.Sprintf(format, args...)}
	if f.refused == nil {
		f.refused = make(map[Refusal]bool)
	}
	f.refused[r] = true
}

// payload notes whether a Service takes payloads by reference.
func (f *finder) payload(s *corev1.Service) {
	switch v := s.Annotations[PayloadAnnotation]; v {
	case "reference":
		for _, h := range f.hosts(s) {
			f.found.references[h] = true
		}
	case "", "value":
	default:
		f.refuse("service", s.Namespace, s.Name, "annotation %s is %q: want value or reference", PayloadAnnotation, v)
	}
}

// hosts are the names that a Service is reached by, without a port.
func (f *finder) hosts(s *corev1.Service) []string {
	base := s.Name + "." + s.Namespace
	return []string{base, base + ".svc", base + ".svc." + f.domain}
}

// pod notes a Pod that has a sidecar and may be used.
func (f *finder) pod(p *corev1.Pod) {
	c, native := sidecarOf(p)
	if c == nil || p.Labels[revisionLabel] != "" || !serving(p) {
		return
	}
	port, ok := portOf(c)
	switch {
	case p.Spec.HostNetwork:
		f.refuse("pod", p.Namespace, p.Name, "it is on the network of its host, which others share")
		return
	case !native:
		f.refuse("pod", p.Namespace, p.Name, "container %s: want an init container with restartPolicy Always, "+
			"so that it starts before the steps and ends after them", Container)
		return
	case !ok:
		f.refuse("pod", p.Namespace, p.Name, "container %s: want one port, or one that is named %s", Container, PortName)
		return
	}
	f.carriers[key(p.Namespace, p.Name)] = &carrier{
		pod: p, sidecar: port, torn: make(map[string]bool),
		out: colocate.Pod{
			ID: string(p.UID), UID: string(p.UID), Namespace: p.Namespace, Weight: f.weight(p),
			Sidecar: "http://" + net.JoinHostPort(p.Status.PodIP, strconv.Itoa(int(port))),
			Ports:   make(map[string]uint16),
		},
	}
}

// sidecarOf is the container of a Pod that has the sidecar's name, nil without one,
// and whether it is a native sidecar.
func sidecarOf(p *corev1.Pod) (c *corev1.Container, native bool) {
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.Name == Container {
			return c, c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		}
	}
	for i := range p.Spec.Containers {
		if c := &p.Spec.Containers[i]; c.Name == Container {
			return c, false
		}
	}
	return nil, false
}

// serving tells whether a Pod is there, ready, and to stay.
func serving(p *corev1.Pod) bool {
	if !p.DeletionTimestamp.IsZero() || p.Status.Phase != corev1.PodRunning || p.Status.PodIP == "" || p.UID == "" {
		return false
	}
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// portOf is the port at which a sidecar takes chains.
func portOf(c *corev1.Container) (int32, bool) {
	for i := range c.Ports {
		if p := &c.Ports[i]; p.Name == PortName && tcp(&p.Protocol) {
			return p.ContainerPort, true
		}
	}
	if len(c.Ports) == 1 && tcp(&c.Ports[0].Protocol) {
		return c.Ports[0].ContainerPort, true
	}
	return 0, false
}

// tcp: it is what a protocol is that is not given.
func tcp(p *corev1.Protocol) bool { return p == nil || *p == "" || *p == corev1.ProtocolTCP }

func (f *finder) weight(p *corev1.Pod) int {
	s := p.Annotations[WeightAnnotation]
	if s == "" {
		return 1
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxWeight {
		f.refuse("pod", p.Namespace, p.Name, "annotation %s is %q: want a number, 1 to %d; 1 is taken", WeightAnnotation, s, maxWeight)
		return 1
	}
	return n
}

// slice notes which of its endpoints are pods with a sidecar.
func (f *finder) slice(s *discoveryv1.EndpointSlice) {
	f.own(s)
	service := f.services[key(s.Namespace, s.Labels[discoveryv1.LabelServiceName])]
	if service == nil || s.AddressType == discoveryv1.AddressTypeFQDN {
		return
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		c := f.carrier(s, e)
		if c == nil || !f.selects(service, s) {
			continue
		}
		if e.Zone != nil {
			c.out.Zone = *e.Zone
		}
		for j := range service.Spec.Ports {
			f.port(c, service, &service.Spec.Ports[j], s)
		}
	}
}

// own notes in which zone the process itself is. A slice of its Service says so, before it
// is ready, too, and needs no right to look at nodes.
func (f *finder) own(s *discoveryv1.EndpointSlice) {
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if t := e.TargetRef; t != nil && e.Zone != nil && t.Kind == podKind && key(t.Namespace, t.Name) == f.self {
			f.found.Map.Zone = *e.Zone
		}
	}
}

// carrier is the pod that an endpoint is, if it is one that steps may be called in.
func (f *finder) carrier(s *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint) *carrier {
	t := e.TargetRef
	if t == nil || t.Kind != podKind || t.Namespace != s.Namespace ||
		e.Conditions.Ready != nil && !*e.Conditions.Ready ||
		e.Conditions.Terminating != nil && *e.Conditions.Terminating {
		return nil
	}
	c := f.carriers[key(t.Namespace, t.Name)]
	if c == nil || c.pod.UID != t.UID || len(e.Addresses) == 0 {
		return nil
	}
	for _, a := range e.Addresses {
		if !has(c.pod, a) {
			return nil // it is somebody else's by now
		}
	}
	return c
}

// has tells whether an address is a Pod's.
func has(p *corev1.Pod, address string) bool {
	want := net.ParseIP(address)
	if want == nil {
		return false
	}
	if want.Equal(net.ParseIP(p.Status.PodIP)) {
		return true
	}
	return slices.ContainsFunc(p.Status.PodIPs, func(i corev1.PodIP) bool { return want.Equal(net.ParseIP(i.IP)) })
}

// selects tells whether a slice says which pods a Service selects, and the Service
// wants them to be found.
func (f *finder) selects(service *corev1.Service, s *discoveryv1.EndpointSlice) bool {
	switch {
	case service.Spec.Type == corev1.ServiceTypeExternalName || len(service.Spec.Selector) == 0:
		f.refuse("service", service.Namespace, service.Name, "it selects no pods: its endpoints are somebody's word")
		return false
	case s.Labels[discoveryv1.LabelManagedBy] != sliceController:
		f.refuse("service", service.Namespace, service.Name, "EndpointSlice %s was not made by Kubernetes for its selector", s.Name)
		return false
	}
	return f.wanted(service)
}

// wanted tells whether a Service has not opted out.
func (f *finder) wanted(service *corev1.Service) bool {
	switch v := service.Annotations[ColocateAnnotation]; v {
	case "", "true":
		return true
	case "false":
		return false
	default:
		f.refuse("service", service.Namespace, service.Name, "annotation %s is %q: want true or false; false is taken", ColocateAnnotation, v)
		return false
	}
}

// port notes where one port of a Service is in a pod.
func (f *finder) port(c *carrier, service *corev1.Service, p *corev1.ServicePort, s *discoveryv1.EndpointSlice) {
	if !tcp(&p.Protocol) {
		return
	}
	i := slices.IndexFunc(s.Ports, func(q discoveryv1.EndpointPort) bool {
		return q.Name != nil && *q.Name == p.Name && tcp(q.Protocol)
	})
	if i < 0 || s.Ports[i].Port == nil {
		return // no pod of this slice has it
	}
	number := *s.Ports[i].Port
	if number < 1 || number > 65535 || number == c.sidecar {
		return
	}
	// By the name of a headless Service pods are called directly: the port in
	// the URL is then their own.
	outside := p.Port
	if service.Spec.ClusterIP == corev1.ClusterIPNone {
		outside = number
	}
	name := key(service.Namespace, service.Name) + ":" + strconv.Itoa(int(outside))
	if was, twice := c.out.Ports[name]; twice && was != uint16(number) {
		c.torn[name] = true
	}
	c.out.Ports[name] = uint16(number)
	if f.named[name] == nil {
		for _, h := range f.hosts(service) {
			if outside != 80 {
				h = net.JoinHostPort(h, strconv.Itoa(int(outside)))
			}
			f.named[name] = append(f.named[name], h)
		}
	}
}

// finish puts what was found in order.
func (f *finder) finish() *Found {
	m := f.found.Map
	for _, c := range f.carriers {
		for name := range c.torn {
			delete(c.out.Ports, name)
		}
		if len(c.out.Ports) > 0 {
			m.Pods = append(m.Pods, c.out)
		}
	}
	m.Pods = append(m.Pods, f.revisions...)
	for name, hosts := range f.named {
		m.Services = append(m.Services, colocate.Service{Name: name, Hosts: hosts})
	}
	for r := range f.refused {
		f.found.Refusals = append(f.found.Refusals, r)
	}
	slices.SortFunc(m.Pods, func(a, b colocate.Pod) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(m.Services, func(a, b colocate.Service) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(f.found.Refusals, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Why, b.Why))
	})
	return f.found
}
