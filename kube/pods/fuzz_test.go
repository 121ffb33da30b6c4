package pods

import (
	"fmt"
	"math/rand/v2"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sidestep-dev/sidestep/colocate"
)

// dice are an input of the fuzzer: what is left of it decides.
type dice []byte

// roll is a number below n.
func (d *dice) roll(n int) int {
	if len(*d) == 0 {
		return 0
	}
	b := (*d)[0]
	*d = (*d)[1:]
	return int(b) % n
}

// odd is true now and then.
func (d *dice) odd() bool { return d.roll(8) == 7 }

// cluster makes objects that fit together most of the time.
func (d *dice) cluster() (o Objects) {
	for i := range 1 + d.roll(4) {
		o.Pods = append(o.Pods, d.pod(i))
	}
	for i := range 1 + d.roll(4) {
		s, slice := selects("s"+strconv.Itoa(i), int32(9100+d.roll(3)), o.Pods[0])
		d.service(s)
		slice.Endpoints = nil
		o.Services = append(o.Services, s)
		for range 1 + d.roll(2) {
			o.Slices = append(o.Slices, d.slice(slice.DeepCopy(), o.Pods))
		}
	}
	return o
}

func (d *dice) namespace() string { return []string{"n", "n", "n", "m"}[d.roll(4)] }

func (d *dice) pod(i int) *corev1.Pod {
	p := sidecarPod("p"+strconv.Itoa(i), "uid-"+strconv.Itoa(i), "10.0.0."+strconv.Itoa(d.roll(4)))
	p.Namespace = d.namespace()
	if d.odd() {
		now := metav1.Now()
		p.DeletionTimestamp = &now
	}
	p.Spec.HostNetwork = d.odd()
	p.Status.Conditions = p.Status.Conditions[:2-d.roll(8)/7]
	c := &p.Spec.InitContainers[1]
	switch d.roll(12) {
	case 9:
		c.RestartPolicy = nil
	case 10:
		c.Name = "other"
	case 11:
		c.Ports = nil
	}
	return p
}

func (d *dice) service(s *corev1.Service) {
	s.Namespace = d.namespace()
	switch d.roll(12) {
	case 8:
		s.Spec.Selector = nil
	case 9:
		s.Annotations = map[string]string{ColocateAnnotation: "false"}
	case 10:
		s.Spec.ClusterIP = corev1.ClusterIPNone
	case 11:
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "alt", Port: 8080})
	}
}

func (d *dice) slice(s *discoveryv1.EndpointSlice, pods []*corev1.Pod) *discoveryv1.EndpointSlice {
	s.Namespace = d.namespace()
	*s.Ports[0].Port = int32(9100 + d.roll(3))
	if d.odd() {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: ptr("alt"), Port: ptr(int32(9300))})
	}
	if d.odd() {
		s.Labels[discoveryv1.LabelManagedBy] = "somebody"
	}
	for range d.roll(3) {
		e := endpointOf(pods[d.roll(len(pods))])
		switch d.roll(12) {
		case 7:
			e.Conditions.Ready = ptr(false)
		case 8:
			e.Conditions.Terminating = ptr(true)
		case 9:
			e.TargetRef.UID = types.UID("uid-9")
		case 10:
			e.Addresses = []string{"10.0.0.9"}
		case 11:
			e.TargetRef = nil
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// FuzzWhatIsFoundIsTrue has an opinion of its own, told from the result back to the
// objects, on whatever objects there are.
func FuzzWhatIsFoundIsTrue(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 32 {
		b := make([]byte, 64)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := dice(b)
		o := d.cluster()
		got := Find(o, "", "")
		if err := got.Map.Validate(); err != nil {
			t.Fatal(err)
		}
		if again := Find(kept(t, reversed(o)), "", ""); !reflect.DeepEqual(got, again) {
			t.Fatalf("in one order %+v\nin another one, as a cache keeps it %+v", got, again)
		}
		for i := range got.Map.Pods {
			checkPod(t, o, &got.Map.Pods[i])
		}
		if want := expected(o); len(got.Map.Pods) != want {
			t.Errorf("%d pods are found, want %d", len(got.Map.Pods), want)
		}
	})
}

func reversed(o Objects) Objects {
	out := Objects{slices.Clone(o.Services), slices.Clone(o.Slices), slices.Clone(o.Pods)}
	slices.Reverse(out.Services)
	slices.Reverse(out.Slices)
	slices.Reverse(out.Pods)
	return out
}

// checkPod has a reason for all that is said of a pod.
func checkPod(t *testing.T, o Objects, p *colocate.Pod) {
	t.Helper()
	i := slices.IndexFunc(o.Pods, func(q *corev1.Pod) bool { return string(q.UID) == p.UID })
	if i < 0 {
		t.Fatalf("there is no pod %s", p.UID)
	}
	pod := o.Pods[i]
	if !usable(pod) || p.Namespace != pod.Namespace || p.Sidecar != "http://"+net.JoinHostPort(pod.Status.PodIP, "9300") {
		t.Errorf("pod %s should not be found, or not as %+v", pod.Name, p)
	}
	for name, port := range p.Ports {
		said := 0
		for _, s := range o.Slices {
			if q := listens(o, s, pod, name); q != 0 {
				said++
				if q != port {
					t.Errorf("%s is at %d, but slice %s says %d", name, port, s.Name, q)
				}
			}
		}
		if said == 0 {
			t.Errorf("nobody says that pod %s has %s", pod.Name, name)
		}
	}
}

func usable(p *corev1.Pod) bool {
	c := p.Spec.InitContainers[1]
	return p.DeletionTimestamp == nil && !p.Spec.HostNetwork && len(p.Status.Conditions) == 2 &&
		c.Name == Container && c.RestartPolicy != nil && len(c.Ports) == 1
}

// listens is where a slice says that a pod has a step, 0 for nowhere.
func listens(o Objects, s *discoveryv1.EndpointSlice, p *corev1.Pod, name string) uint16 {
	namespace, rest, _ := strings.Cut(name, "/")
	service, port, _ := strings.Cut(rest, ":")
	if s.Namespace != namespace || p.Namespace != namespace || s.Labels[discoveryv1.LabelServiceName] != service ||
		s.Labels[discoveryv1.LabelManagedBy] != sliceController {
		return 0
	}
	if !slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool {
		return e.TargetRef != nil && e.TargetRef.UID == p.UID && *e.Conditions.Ready && !*e.Conditions.Terminating &&
			e.Addresses[0] == p.Status.PodIP
	}) {
		return 0
	}
	for _, v := range o.Services {
		if v.Namespace != namespace || v.Name != service || v.Spec.Selector == nil || v.Annotations[ColocateAnnotation] == "false" {
			continue
		}
		for _, vp := range v.Spec.Ports {
			for _, sp := range s.Ports {
				outside := fmt.Sprint(vp.Port)
				if v.Spec.ClusterIP == corev1.ClusterIPNone {
					outside = fmt.Sprint(*sp.Port)
				}
				if *sp.Name == vp.Name && outside == port && *sp.Port != 9300 {
					return uint16(*sp.Port)
				}
			}
		}
	}
	return 0
}

// expected is how many pods have a step about which no two slices differ.
func expected(o Objects) (n int) {
	for _, p := range o.Pods {
		if !usable(p) {
			continue
		}
		ports := map[string]map[uint16]bool{}
		for _, v := range o.Services {
			names := []string{"80", "8080", "9100", "9101", "9102"}
			for _, port := range names {
				name := v.Namespace + "/" + v.Name + ":" + port
				for _, s := range o.Slices {
					if q := listens(o, s, p, name); q != 0 {
						if ports[name] == nil {
							ports[name] = map[uint16]bool{}
						}
						ports[name][q] = true
					}
				}
			}
		}
		for _, said := range ports {
			if len(said) == 1 {
				n++
				break
			}
		}
	}
	return n
}
