package pods

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/sidestep-dev/sidestep/colocate"
	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// knative notes the steps of a Knative Service: containers of one pod, of which the sidecar
// is the one with the port. They are called by the Service's address, so that it is scaled
// by what is sent there, to zero as well; the path names the step.
func (f *finder) knative(s *corev1.Service) {
	text := s.Annotations[StepsAnnotation]
	switch {
	case text == "":
		return
	case s.Labels[routeLabel] == "":
		f.refuse("service", s.Namespace, s.Name, "annotation %s is for a Knative Service; what others select is found without", StepsAnnotation)
		return
	case !f.wanted(s):
		return
	}
	name := key(s.Namespace, s.Name)
	out := colocate.Pod{
		ID: name, UID: name, Namespace: s.Namespace, Weight: 1, OnDemand: true,
		Sidecar: "http://" + s.Name + "." + s.Namespace + ".svc." + f.domain,
		Ports:   make(map[string]uint16),
	}
	for part := range strings.SplitSeq(text, ",") {
		step, number, _ := strings.Cut(strings.TrimSpace(part), "=")
		port, err := strconv.ParseUint(number, 10, 16)
		if err != nil || port == 0 || !wire.IsStepName(step) {
			f.refuse("service", s.Namespace, s.Name, "annotation %s: %q: want NAME=PORT", StepsAnnotation, part)
			return
		}
		out.Ports[name+"/"+step] = uint16(port)
	}
	for step := range out.Ports {
		for _, h := range f.hosts(s) {
			f.named[step] = append(f.named[step], h+strings.TrimPrefix(step, name))
		}
	}
	f.revisions = append(f.revisions, out)
}
