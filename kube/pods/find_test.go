package pods

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sidestep-dev/sidestep/colocate"
)

// found is what Find says; a cache that drops what it does not need changes
// nothing about it.
func found(t *testing.T, o Objects) *Found {
	t.Helper()
	f := Find(o, "", "n/self")
	if err := f.Map.Validate(); err != nil {
		t.Errorf("the map cannot be used: %v", err)
	}
	if k := Find(kept(t, o), "", "n/self"); !reflect.DeepEqual(f, k) {
		t.Errorf("of all objects: %+v\nof what a cache keeps: %+v", f, k)
	}
	return f
}

func TestTwoServicesThatSelectTheSamePodShareItsSidecar(t *testing.T) {
	f := found(t, newTown().objects())
	want := &colocate.Map{
		Services: []colocate.Service{
			{Name: "n/caption:80", Hosts: []string{"caption.n", "caption.n.svc", "caption.n.svc.cluster.local"}},
			{Name: "n/resize:80", Hosts: []string{"resize.n", "resize.n.svc", "resize.n.svc.cluster.local"}},
		},
		Pods: []colocate.Pod{{
			ID: "uid-0", UID: "uid-0", Namespace: "n", Sidecar: "http://10.0.0.7:9300", Zone: "west", Weight: 1,
			Ports: map[string]uint16{"n/resize:80": 9101, "n/caption:80": 9102},
		}},
	}
	if !reflect.DeepEqual(f.Map, want) {
		t.Errorf("got %+v\nwant %+v", f.Map, want)
	}
	if f.Refusals != nil {
		t.Errorf("refused: %v", f.Refusals)
	}
}

// TestWhatIsInDoubtIsLeftOut has a row for each refusal. What is left of the town is
// the step caption in the pod, or nothing.
func TestWhatIsInDoubtIsLeftOut(t *testing.T) {
	now := metav1.Now()
	endpoint := func(t *town) *discoveryv1.Endpoint { return &t.resizeSlice.Endpoints[0] }
	sidecar := func(t *town) *corev1.Container { return &t.pod.Spec.InitContainers[1] }
	const nothing, caption, all = "", "n/caption:80", "n/caption:80 n/resize:80"
	for name, row := range map[string]struct {
		change func(*town)
		left   string
		why    string // of the refusal, "" for none
	}{
		"Service without a selector":         {func(t *town) { t.resize.Spec.Selector = nil }, caption, "selects no pods"},
		"Service that is an ExternalName":    {func(t *town) { t.resize.Spec.Type = corev1.ServiceTypeExternalName }, caption, "selects no pods"},
		"Service that opted out":             {func(t *town) { t.resize.Annotations = map[string]string{ColocateAnnotation: "false"} }, caption, ""},
		"Service that opted in":              {func(t *town) { t.resize.Annotations = map[string]string{ColocateAnnotation: "true"} }, all, ""},
		"Service that says something else":   {func(t *town) { t.resize.Annotations = map[string]string{ColocateAnnotation: "no"} }, caption, "want true or false"},
		"Service that is unknown":            {func(t *town) { t.resize.Name = "other" }, caption, ""},
		"Service of UDP":                     {func(t *town) { t.resize.Spec.Ports[0].Protocol = corev1.ProtocolUDP }, caption, ""},
		"slice that somebody made":           {func(t *town) { t.resizeSlice.Labels[discoveryv1.LabelManagedBy] = "me" }, caption, "was not made by Kubernetes"},
		"slice of host names":                {func(t *town) { t.resizeSlice.AddressType = discoveryv1.AddressTypeFQDN }, caption, ""},
		"slice of another namespace":         {func(t *town) { t.resizeSlice.Namespace, t.resize.Namespace = "m", "m" }, caption, ""},
		"slice without the Service's port":   {func(t *town) { t.resizeSlice.Ports[0].Name = ptr("grpc") }, caption, ""},
		"slice without a port":               {func(t *town) { t.resizeSlice.Ports[0].Port = nil }, caption, ""},
		"slice with port 0":                  {func(t *town) { t.resizeSlice.Ports[0].Port = ptr(int32(0)) }, caption, ""},
		"slice of UDP":                       {func(t *town) { t.resizeSlice.Ports[0].Protocol = ptr(corev1.ProtocolUDP) }, caption, ""},
		"the port is the sidecar's own":      {func(t *town) { t.resizeSlice.Ports[0].Port = ptr(int32(9300)) }, caption, ""},
		"endpoint that is not ready":         {func(t *town) { endpoint(t).Conditions.Ready = ptr(false) }, caption, ""},
		"endpoint that says nothing":         {func(t *town) { endpoint(t).Conditions = discoveryv1.EndpointConditions{} }, all, ""},
		"endpoint that is terminating":       {func(t *town) { endpoint(t).Conditions.Terminating = ptr(true) }, caption, ""},
		"endpoint that refers to nothing":    {func(t *town) { endpoint(t).TargetRef = nil }, caption, ""},
		"endpoint that is no Pod":            {func(t *town) { endpoint(t).TargetRef.Kind = "Node" }, caption, ""},
		"endpoint of another namespace":      {func(t *town) { endpoint(t).TargetRef.Namespace = "m" }, caption, ""},
		"endpoint that is a former Pod":      {func(t *town) { endpoint(t).TargetRef.UID = "uid-before" }, caption, ""},
		"endpoint that is an unknown Pod":    {func(t *town) { endpoint(t).TargetRef.Name = "pics-9" }, caption, ""},
		"endpoint with a former address":     {func(t *town) { endpoint(t).Addresses = []string{"10.0.0.8"} }, caption, ""},
		"endpoint with somebody's, too":      {func(t *town) { endpoint(t).Addresses = []string{"10.0.0.7", "10.0.0.8"} }, caption, ""},
		"endpoint with no address":           {func(t *town) { endpoint(t).Addresses = nil }, caption, ""},
		"endpoint with a broken address":     {func(t *town) { endpoint(t).Addresses = []string{"here"} }, caption, ""},
		"endpoint with another of the Pod's": {secondAddress, all, ""},
		"Pod on the host's network":          {func(t *town) { t.pod.Spec.HostNetwork = true }, nothing, "network of its host"},
		"Pod that is terminating":            {func(t *town) { t.pod.DeletionTimestamp = &now }, nothing, ""},
		"Pod that is pending":                {func(t *town) { t.pod.Status.Phase = corev1.PodPending }, nothing, ""},
		"Pod that is not ready":              {func(t *town) { t.pod.Status.Conditions[1].Status = corev1.ConditionFalse }, nothing, ""},
		"Pod that says nothing":              {func(t *town) { t.pod.Status.Conditions = nil }, nothing, ""},
		"Pod without an address":             {func(t *town) { t.pod.Status.PodIP = "" }, nothing, ""},
		"Pod of a Knative revision":          {func(t *town) { t.pod.Labels[revisionLabel] = "pics-00001" }, nothing, ""},
		"Pod with an odd weight":             {func(t *town) { t.pod.Annotations = map[string]string{WeightAnnotation: "1001"} }, all, "want a number, 1 to 1000"},
		"no sidecar":                         {func(t *town) { sidecar(t).Name = "other" }, nothing, ""},
		"sidecar that ends before the steps": {func(t *town) { sidecar(t).RestartPolicy = nil }, nothing, "restartPolicy Always"},
		"sidecar among the steps":            {amongTheSteps, nothing, "restartPolicy Always"},
		"sidecar without ports":              {func(t *town) { sidecar(t).Ports = nil }, nothing, "want one port"},
		"sidecar with one port of a name":    {func(t *town) { sidecar(t).Ports[0].Name = "chains" }, all, ""},
		"sidecar with two ports":             {func(t *town) { secondPort(sidecar(t), "metrics"); sidecar(t).Ports[0].Name = "chains" }, nothing, "want one port"},
		"sidecar with two ports, one named":  {func(t *town) { secondPort(sidecar(t), "metrics") }, all, ""},
		"sidecar of UDP":                     {func(t *town) { sidecar(t).Ports[0].Protocol = corev1.ProtocolUDP }, nothing, "want one port"},
		"two ports at the same time":         {anotherTarget, caption, ""},
	} {
		t.Run(name, func(t *testing.T) {
			town := newTown()
			row.change(town)
			f := found(t, town.objects())
			var left []string
			for _, p := range f.Map.Pods {
				for service := range p.Ports {
					left = append(left, service)
				}
			}
			slices.Sort(left)
			if got := strings.Join(left, " "); got != row.left {
				t.Errorf("left are %q, want %q", got, row.left)
			}
			if row.why == "" && f.Refusals != nil || row.why != "" && (len(f.Refusals) != 1 || !strings.Contains(f.Refusals[0].Why, row.why)) {
				t.Errorf("refused: %v, want %q", f.Refusals, row.why)
			}
		})
	}
}

func secondAddress(t *town) {
	t.pod.Status.PodIPs = append(t.pod.Status.PodIPs, corev1.PodIP{IP: "fd00::7"})
	t.resizeSlice.AddressType = discoveryv1.AddressTypeIPv6
	t.resizeSlice.Endpoints[0].Addresses = []string{"fd00:0:0::7"}
}

func amongTheSteps(t *town) {
	i := t.pod.Spec.InitContainers
	t.pod.Spec.Containers, t.pod.Spec.InitContainers = append(t.pod.Spec.Containers, i[1]), i[:1]
}

func secondPort(c *corev1.Container, name string) {
	c.Ports = append(c.Ports, corev1.ContainerPort{Name: name, ContainerPort: 9301, Protocol: corev1.ProtocolTCP})
}

// anotherTarget has the slices of before and after a change of the target port.
func anotherTarget(t *town) {
	after := t.resizeSlice.DeepCopy()
	after.Name, after.Ports[0].Port = "resize-x8", ptr(int32(9111))
	t.more = append(t.more, after)
}

func TestAnIPv6PodIsCalledByItsAddressInBrackets(t *testing.T) {
	town := newTown()
	secondAddress(town)
	town.pod.Status.PodIP = "fd00::7"
	if got := found(t, town.objects()).Map.Pods[0].Sidecar; got != "http://[fd00::7]:9300" {
		t.Errorf("got %s", got)
	}
}

func TestNamedPortsAreEachPodsOwn(t *testing.T) {
	town := newTown()
	other := sidecarPod("pics-1", "uid-1", "10.0.0.8")
	other.Annotations = map[string]string{WeightAnnotation: "3"}
	_, slice := selects("resize", 9201, other) // Kubernetes makes a slice for each set of ports
	town.more = append(town.more, slice)
	o := town.objects()
	o.Pods = append(o.Pods, other)
	pods := found(t, o).Map.Pods
	if len(pods) != 2 || pods[0].Ports["n/resize:80"] != 9101 || pods[1].Ports["n/resize:80"] != 9201 {
		t.Errorf("got %+v", pods)
	}
	if pods[0].Weight != 1 || pods[1].Weight != 3 {
		t.Errorf("weights are %d and %d", pods[0].Weight, pods[1].Weight)
	}
}

func TestEachPortOfAServiceIsAStepOfItsOwn(t *testing.T) {
	town := newTown()
	town.resize.Spec.Ports = append(town.resize.Spec.Ports, corev1.ServicePort{Name: "alt", Port: 8080})
	town.resizeSlice.Ports = append(town.resizeSlice.Ports, discoveryv1.EndpointPort{Name: ptr("alt"), Port: ptr(int32(9109))})
	m := found(t, town.objects()).Map
	if got := m.Pods[0].Ports; got["n/resize:80"] != 9101 || got["n/resize:8080"] != 9109 {
		t.Errorf("got %v", got)
	}
	i := slices.IndexFunc(m.Services, func(s colocate.Service) bool { return s.Name == "n/resize:8080" })
	want := []string{"resize.n:8080", "resize.n.svc:8080", "resize.n.svc.cluster.local:8080"}
	if i < 0 || !slices.Equal(m.Services[i].Hosts, want) {
		t.Errorf("got %+v", m.Services)
	}
}

// TestAHeadlessServiceIsCalledAtThePodsPort: its name is that of the pods, and no
// proxy changes the port.
func TestAHeadlessServiceIsCalledAtThePodsPort(t *testing.T) {
	town := newTown()
	town.resize.Spec.ClusterIP = corev1.ClusterIPNone
	m := found(t, town.objects()).Map
	if got := m.Pods[0].Ports; got["n/resize:9101"] != 9101 || got["n/resize:80"] != 0 {
		t.Errorf("got %v", got)
	}
	for _, s := range m.Services {
		if s.Name == "n/resize:9101" && slices.Contains(s.Hosts, "resize.n.svc.cluster.local:9101") {
			return
		}
	}
	t.Errorf("got %+v", m.Services)
}

// TestTheZoneOfTheProcessIsThatOfItsEndpoint: also before it is ready, and without a
// sidecar.
func TestTheZoneOfTheProcessIsThatOfItsEndpoint(t *testing.T) {
	town := newTown()
	self := sidecarPod("self", "uid-9", "10.0.0.9")
	self.Spec.InitContainers = nil
	_, slice := selects("dispatcher", 8080, self)
	slice.Endpoints[0].Conditions.Ready = ptr(false)
	slice.Endpoints[0].Zone = ptr("east")
	town.more = append(town.more, slice)
	if m := found(t, town.objects()).Map; m.Zone != "east" || m.Pods[0].Zone != "west" {
		t.Errorf("the process is in %q, the pod in %q", m.Zone, m.Pods[0].Zone)
	}
	slice.Endpoints[0].TargetRef.Namespace = "m"
	if m := found(t, town.objects()).Map; m.Zone != "" {
		t.Errorf("another namespace's pod of the same name is in %q", m.Zone)
	}
}

func TestHostsAreThoseOfTheClustersDomain(t *testing.T) {
	f := Find(newTown().objects(), "Corp.Example", "")
	if !slices.Contains(f.Map.Services[0].Hosts, "caption.n.svc.corp.example") {
		t.Errorf("got %v", f.Map.Services[0].Hosts)
	}
	if h := colocate.HostOf("http://Caption.n.svc.corp.example/x"); !slices.Contains(f.Map.Services[0].Hosts, h) {
		t.Errorf("a subscriber's URL has the host %s", h)
	}
}

func TestPayloadsByReferenceAreAServicesToAskFor(t *testing.T) {
	town := newTown()
	town.resize.Annotations = map[string]string{PayloadAnnotation: "reference"}
	// Of a Knative Service there is no more than an alias.
	town.resize.Spec.Type, town.resize.Spec.Selector = corev1.ServiceTypeExternalName, nil
	town.more, town.resizeSlice.Endpoints = nil, nil
	town.caption.Annotations = map[string]string{PayloadAnnotation: "value"}
	f := found(t, town.objects())
	for address, want := range map[string]bool{
		"http://resize.n.svc.cluster.local":         true,
		"https://Resize.n.svc.cluster.local:8443/x": true,
		"http://resize.n":                           true,
		"http://resize.m.svc.cluster.local":         false,
		"http://caption.n.svc.cluster.local":        false,
		"http://resize.n.svc.cluster.local.evil":    false,
		"%":                                         false,
	} {
		if got := f.ByReference(address); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if f.Refusals != nil {
		t.Errorf("refused: %v", f.Refusals)
	}
	town.resize.Annotations[PayloadAnnotation] = "by-reference"
	f = found(t, town.objects())
	if f.ByReference("http://resize.n") || len(f.Refusals) != 1 || !strings.Contains(f.Refusals[0].Why, "want value or reference") {
		t.Errorf("refused: %v", f.Refusals)
	}
	if (*Found)(nil).ByReference("http://resize.n") {
		t.Error("before anything is known")
	}
}

// asKnative makes a Service as Knative Serving makes it for a Knative Service.
func asKnative(s *corev1.Service, steps string) {
	s.Spec.Type, s.Spec.Selector = corev1.ServiceTypeExternalName, nil
	s.Labels = map[string]string{routeLabel: s.Name}
	s.Annotations = map[string]string{StepsAnnotation: steps}
}

func TestStepsOfAKnativeServiceAreNamedByThePath(t *testing.T) {
	town := newTown()
	asKnative(town.resize, "small=9101, large=9102")
	town.resizeSlice.Endpoints, town.captionSlice.Endpoints = nil, nil
	f := found(t, town.objects())
	want := &colocate.Map{
		Services: []colocate.Service{
			{Name: "n/resize/large", Hosts: []string{"resize.n/large", "resize.n.svc/large", "resize.n.svc.cluster.local/large"}},
			{Name: "n/resize/small", Hosts: []string{"resize.n/small", "resize.n.svc/small", "resize.n.svc.cluster.local/small"}},
		},
		Pods: []colocate.Pod{{
			ID: "n/resize", UID: "n/resize", Namespace: "n", Sidecar: "http://resize.n.svc.cluster.local", Weight: 1, OnDemand: true,
			Ports: map[string]uint16{"n/resize/small": 9101, "n/resize/large": 9102},
		}},
	}
	if !reflect.DeepEqual(f.Map, want) || f.Refusals != nil {
		t.Errorf("got %+v, refused %v\nwant %+v", f.Map, f.Refusals, want)
	}
}

func TestStepsOfAKnativeServiceThatAreInDoubtAreLeftOut(t *testing.T) {
	for name, row := range map[string]struct {
		edit func(*corev1.Service)
		why  string
	}{
		"opted out":            {func(s *corev1.Service) { s.Annotations[ColocateAnnotation] = "false" }, ""},
		"no Knative Service":   {func(s *corev1.Service) { s.Labels = nil }, "is for a Knative Service"},
		"no port":              {func(s *corev1.Service) { s.Annotations[StepsAnnotation] = "a" }, `"a": want NAME=PORT`},
		"port 0":               {func(s *corev1.Service) { s.Annotations[StepsAnnotation] = "a=0" }, `"a=0": want NAME=PORT`},
		"name that is no name": {func(s *corev1.Service) { s.Annotations[StepsAnnotation] = "a=1,b/c=2" }, `"b/c=2": want NAME=PORT`},
	} {
		t.Run(name, func(t *testing.T) {
			town := newTown()
			asKnative(town.resize, "a=9101")
			town.resizeSlice.Endpoints, town.captionSlice.Endpoints = nil, nil
			row.edit(town.resize)
			f := found(t, town.objects())
			if len(f.Map.Pods) > 0 || len(f.Map.Services) > 0 {
				t.Errorf("got %+v", f.Map)
			}
			if (row.why == "") != (f.Refusals == nil) || row.why != "" && !strings.Contains(f.Refusals[0].Why, row.why) {
				t.Errorf("refused %v, want %q", f.Refusals, row.why)
			}
		})
	}
}
