package inject

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/sidestep-dev/sidestep/kube/pods"
)

var update = flag.Bool("update", false, "write testdata anew")

// asks is a pod of two steps that wants a sidecar.
func asks() *corev1.Pod {
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "pics-", Labels: map[string]string{"app": "pics", Label: "true"},
			Annotations: map[string]string{PortsAnnotation: "9101, 9102"},
		},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "fetch", Image: "fetch"}},
			Containers: []corev1.Container{
				{Name: "resize", Image: "resize", VolumeMounts: []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}}},
				{Name: "caption", Image: "caption"},
			},
			Volumes: []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		},
	}
}

func inject(t *testing.T, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	if err := Inject(p, "registry.example/sidecar:1"); err != nil {
		t.Fatal(err)
	}
	return p
}

func sidecarOf(t *testing.T, p *corev1.Pod) *corev1.Container {
	t.Helper()
	for i := range p.Spec.InitContainers {
		if p.Spec.InitContainers[i].Name == pods.Container {
			return &p.Spec.InitContainers[i]
		}
	}
	t.Fatalf("there is no sidecar: %+v", p.Spec)
	return nil
}

func arg(t *testing.T, c *corev1.Container, name string) string {
	t.Helper()
	for _, a := range c.Args {
		if v, ok := strings.CutPrefix(a, name+"="); ok {
			return v
		}
	}
	return ""
}

// TestWhatIsInjectedIsAsItIsWritten: "go test ./kube/inject -update" writes it anew.
func TestWhatIsInjectedIsAsItIsWritten(t *testing.T) {
	got, err := yaml.Marshal(inject(t, asks()))
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/injected.yaml"
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestASecondTimeChangesNothing(t *testing.T) {
	p := inject(t, asks())
	was := p.DeepCopy()
	if inject(t, p); !reflect.DeepEqual(p, was) {
		t.Errorf("got %+v\nwant %+v", p, was)
	}
}

func TestOnlyPodsThatAskGetOne(t *testing.T) {
	for _, labels := range []map[string]string{nil, {Label: "false"}, {Label: ""}} {
		p := asks()
		p.Labels = labels
		was := p.DeepCopy()
		if inject(t, p); !reflect.DeepEqual(p, was) {
			t.Errorf("labels %v: it got one", labels)
		}
	}
}

// TestWhatIsInjectedIsFound: dispatchers know the pod for what it is.
func TestWhatIsInjectedIsFound(t *testing.T) {
	p := inject(t, asks())
	p.Namespace, p.Name, p.UID = "n", "pics-0", "uid"
	p.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: "10.0.0.7",
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	name, port := "", int32(9101)
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "resize"},
		Spec:       corev1.ServiceSpec{Selector: p.Labels, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "resize-x", Labels: map[string]string{
			discoveryv1.LabelServiceName: "resize", discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io",
		}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{"10.0.0.7"},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "n", Name: "pics-0", UID: "uid"},
		}},
	}
	f := pods.Find(pods.Objects{Services: []*corev1.Service{s}, Slices: []*discoveryv1.EndpointSlice{slice}, Pods: []*corev1.Pod{p}}, "", "")
	if len(f.Map.Pods) != 1 || f.Map.Pods[0].Sidecar != "http://10.0.0.7:9300" || f.Refusals != nil {
		t.Errorf("found %+v, refused %v", f.Map, f.Refusals)
	}
}

func TestPortsAreThoseThatAreDeclaredUnlessTheyAreNamed(t *testing.T) {
	tests := map[string]struct {
		annotation string // "-" for none
		declared   []corev1.ContainerPort
		allow      string
		listen     string
	}{
		"named":         {"9101,[::1]:9102", nil, "9101,[::1]:9102", ":9300"},
		"declared":      {"-", []corev1.ContainerPort{{ContainerPort: 8080}, {ContainerPort: 8081, Protocol: "TCP"}}, "8080,8081", ":9300"},
		"declared UDP":  {"-", []corev1.ContainerPort{{ContainerPort: 53, Protocol: "UDP"}, {ContainerPort: 53, Protocol: "TCP"}}, "53", ":9300"},
		"both":          {"9101", []corev1.ContainerPort{{ContainerPort: 8080}}, "9101", ":9300"},
		"the sidecar's": {"9300", []corev1.ContainerPort{{ContainerPort: 9301}}, "9300", ":9302"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := asks()
			p.Annotations[PortsAnnotation] = tt.annotation
			if tt.annotation == "-" {
				p.Annotations = nil
			}
			p.Spec.Containers[1].Ports = tt.declared
			c := sidecarOf(t, inject(t, p))
			if allow, listen := arg(t, c, "--allow"), arg(t, c, "--listen"); allow != tt.allow || listen != tt.listen {
				t.Errorf("allow %s, listen %s; want %s and %s", allow, listen, tt.allow, tt.listen)
			}
			if got := c.Ports[0]; fmt.Sprint(":", got.ContainerPort) != tt.listen || got.Name != pods.PortName {
				t.Errorf("declares %+v", got)
			}
		})
	}
}

func TestRoomForClaims(t *testing.T) {
	for text, want := range map[string]struct{ bytes, limit string }{
		"":     {"268435456", "416Mi"},
		"1Gi":  {"1073741824", "1184Mi"},
		"0":    {"", "160Mi"},
		"10M":  {"10000000", "177772160"},
		"1e9":  {"1000000000", "1167772160"},
		"0.5G": {"500000000", "667772160"},
	} {
		p := asks()
		if text != "" {
			p.Annotations[ClaimsAnnotation] = text
		}
		c := sidecarOf(t, inject(t, p))
		if got := arg(t, c, "--claim-bytes"); got != want.bytes {
			t.Errorf("%q: --claim-bytes=%s, want %s", text, got, want.bytes)
		}
		if got := c.Resources.Limits.Memory().String(); got != want.limit {
			t.Errorf("%q: limit %s, want %s", text, got, want.limit)
		}
		mounted := 0
		for _, c := range p.Spec.Containers {
			for _, m := range c.VolumeMounts {
				if m.Name == ClaimsVolume && m.MountPath == ClaimsPath && !m.ReadOnly {
					mounted++
				}
			}
		}
		if (mounted == 2) != (want.bytes != "") {
			t.Errorf("%q: %d steps see the folder", text, mounted)
		}
	}
}

// TestAVolumeOfThePodsOwnIsUsed: on a disk, say, where memory is scarce.
func TestAVolumeOfThePodsOwnIsUsed(t *testing.T) {
	p := asks()
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: ClaimsVolume})
	mount := corev1.VolumeMount{Name: ClaimsVolume, MountPath: "/elsewhere"}
	p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, mount)
	inject(t, p)
	var named int
	for _, v := range p.Spec.Volumes {
		if v.Name == ClaimsVolume {
			named++
		}
	}
	if got := sidecarOf(t, p).Resources.Limits.Memory().String(); named != 1 || got != "160Mi" {
		t.Errorf("%d volumes of the name, memory limit %s", named, got)
	}
	if got := p.Spec.Containers[0].VolumeMounts; len(got) != 2 || got[1] != mount {
		t.Errorf("the step's mounts are %+v", got)
	}
}

func TestWhatCannotBeIsRefusedAndNamed(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*corev1.Pod)
		want   []string
	}{
		"no ports at all":    {func(p *corev1.Pod) { p.Annotations = nil }, []string{"no container declares a port", PortsAnnotation}},
		"empty annotation":   {func(p *corev1.Pod) { p.Annotations[PortsAnnotation] = "" }, []string{PortsAnnotation, "want a port"}},
		"words":              {func(p *corev1.Pod) { p.Annotations[PortsAnnotation] = "http" }, []string{PortsAnnotation, `"http"`}},
		"other addresses":    {func(p *corev1.Pod) { p.Annotations[PortsAnnotation] = "10.0.0.1:80" }, []string{PortsAnnotation}},
		"twice":              {func(p *corev1.Pod) { p.Annotations[PortsAnnotation] = "1,1" }, []string{"allowed twice"}},
		"too many":           {func(p *corev1.Pod) { p.Annotations[PortsAnnotation] = strings.Repeat("1,", 64) + "2" }, []string{"at most 64"}},
		"too many declared":  {manyPorts, []string{"declare 65 ports", PortsAnnotation}},
		"claims in words":    {func(p *corev1.Pod) { p.Annotations[ClaimsAnnotation] = "much" }, []string{ClaimsAnnotation, "256Mi"}},
		"claims below zero":  {func(p *corev1.Pod) { p.Annotations[ClaimsAnnotation] = "-1Gi" }, []string{ClaimsAnnotation}},
		"claims of a few":    {func(p *corev1.Pod) { p.Annotations[ClaimsAnnotation] = "1Ki" }, []string{"at least 1Mi"}},
		"the host's network": {func(p *corev1.Pod) { p.Spec.HostNetwork = true }, []string{"spec.hostNetwork"}},
		"windows":            {func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }, []string{"spec.os.name"}},
		"a step of the name": {func(p *corev1.Pod) { p.Spec.Containers[0].Name = pods.Container }, []string{"spec.containers"}},
		"two at once": {func(p *corev1.Pod) {
			p.Annotations[PortsAnnotation], p.Annotations[ClaimsAnnotation] = "x", "y"
		}, []string{PortsAnnotation, ClaimsAnnotation}},
	} {
		p := asks()
		tt.change(p)
		was := p.DeepCopy()
		err := Inject(p, "i")
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: error %v", name, err)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want %q in it", name, err, want)
			}
		}
		if !reflect.DeepEqual(p, was) {
			t.Errorf("%s: it was changed", name)
		}
	}
}

func manyPorts(p *corev1.Pod) {
	p.Annotations = nil
	for i := range int32(65) {
		p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, corev1.ContainerPort{ContainerPort: 1000 + i})
	}
}
