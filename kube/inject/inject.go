package inject

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sidestep-dev/sidestep/colocate/sidecar"
	"github.com/sidestep-dev/sidestep/kube/pods"
)

// How a pod's template asks.
const (
	// Label is "true" on pods that want a sidecar.
	Label = "sidestep.dev/inject"
	// PortsAnnotation lists the ports of steps, as sidecar.ParsePorts reads them.
	// Without it they are the TCP ports that the pod's containers declare.
	PortsAnnotation = "sidestep.dev/ports"
	// ClaimsAnnotation is how much room there is for events that do not fit into
	// the sidecar's memory: a quantity of bytes. 0: none, such events are stored.
	ClaimsAnnotation = "sidestep.dev/claims"
)

// What is put into a pod beside the container, which is named pods.Container. A pod
// that has a volume of its own with the name ClaimsVolume has that one used. The paths
// have no link in them in any image, as those beneath /var/run would: steps and sidecar
// have to call a file the same.
const (
	ClaimsVolume = "sidestep-claims"
	ClaimsPath   = "/sidestep/claims"

	trustVolume = "sidestep-trust"
	trustPath   = "/sidestep/trust"

	noTokenVolume = "sidestep-no-token"
	tokenPath     = "/var/run/secrets/kubernetes.io/serviceaccount"
)

const (
	firstPort     = 9300
	defaultClaims = 256 << 20
	// inMemory bounds the bytes of events in the sidecar's memory, and
	// memoryLimit all that it may use: see heapSpare in cmd/sidecar.
	inMemory    = 32 << 20
	memoryLimit = 160 << 20
	nobody      = 65532
)

// ErrRefused is wrapped by the errors of Inject.
var ErrRefused = errors.New("the pod cannot have a Sidestep sidecar")

// Inject puts a sidecar of an image into a pod that asks for one. A pod that has one
// stays as it is. An error changes nothing.
func Inject(p *corev1.Pod, image string) error {
	if p.Labels[Label] != "true" {
		return nil
	}
	for i := range p.Spec.InitContainers {
		if p.Spec.InitContainers[i].Name == pods.Container {
			return nil // by hand, or by us
		}
	}
	ports, err := portsOf(p)
	claims, claimsErr := claimsOf(p)
	if err := errors.Join(err, claimsErr, fits(p)); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	in := injection{pod: p, image: image, ports: ports, claims: claims}
	p.Spec.InitContainers = append(p.Spec.InitContainers, in.container())
	in.volumes()
	return nil
}

// fits tells what else keeps a pod from having a sidecar.
func fits(p *corev1.Pod) error {
	switch {
	case p.Spec.HostNetwork:
		return errors.New("spec.hostNetwork is true: the steps' loopback address would be that of the whole node")
	case p.Spec.OS != nil && p.Spec.OS.Name == corev1.Windows:
		return errors.New("spec.os.name is windows: the sidecar runs on linux")
	case slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Name == pods.Container }):
		return fmt.Errorf("spec.containers has one named %s, which is the sidecar's name", pods.Container)
	}
	return nil
}

// portsOf are the ports of the steps in a pod.
func portsOf(p *corev1.Pod) ([]sidecar.Port, error) {
	text, ok := p.Annotations[PortsAnnotation]
	if !ok {
		return declared(p)
	}
	ports, err := sidecar.ParsePorts(text)
	if err == nil {
		c := sidecar.Config{Pod: "any", Allow: ports}
		err = c.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("annotation %s is %q: %w; want the ports of the steps, such as 9101,9102", PortsAnnotation, text, err)
	}
	return ports, nil
}

// declared are the ports that containers say they have.
func declared(p *corev1.Pod) ([]sidecar.Port, error) {
	var ports []sidecar.Port
	for i := range p.Spec.Containers {
		for _, q := range p.Spec.Containers[i].Ports {
			port := sidecar.Port{Number: uint16(q.ContainerPort)}
			if cmp.Or(q.Protocol, corev1.ProtocolTCP) == corev1.ProtocolTCP && q.ContainerPort > 0 && q.ContainerPort <= 65535 &&
				!slices.Contains(ports, port) {
				ports = append(ports, port)
			}
		}
	}
	switch {
	case len(ports) == 0:
		return nil, fmt.Errorf("no container declares a port: name those of the steps in the annotation %s, such as 9101,9102", PortsAnnotation)
	case len(ports) > sidecar.MaxPorts:
		return nil, fmt.Errorf("its containers declare %d ports, at most %d can be called: name those of the steps in the annotation %s",
			len(ports), sidecar.MaxPorts, PortsAnnotation)
	}
	return ports, nil
}

// claimsOf is how much room there is for claims, in bytes.
func claimsOf(p *corev1.Pod) (int64, error) {
	text, ok := p.Annotations[ClaimsAnnotation]
	if !ok {
		return defaultClaims, nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() < 0 || q.Value() > 0 && q.Value() < 1<<20 {
		return 0, fmt.Errorf("annotation %s is %q: want a number of bytes, such as 256Mi, at least 1Mi; or 0 for none", ClaimsAnnotation, text)
	}
	return q.Value(), nil
}

// injection is what is put into a pod.
type injection struct {
	pod    *corev1.Pod
	image  string
	ports  []sidecar.Port
	claims int64
}

// own tells whether the pod brings the volume for claims.
func (in *injection) own() bool {
	return slices.ContainsFunc(in.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == ClaimsVolume })
}

// port is where the sidecar listens: at a port that nobody in the pod is known to have.
func (in *injection) port() int32 {
	taken := make(map[int32]bool)
	for _, p := range in.ports {
		taken[int32(p.Number)] = true
	}
	for _, cs := range [][]corev1.Container{in.pod.Spec.InitContainers, in.pod.Spec.Containers} {
		for i := range cs {
			for _, p := range cs[i].Ports {
				taken[p.ContainerPort] = true
			}
		}
	}
	port := int32(firstPort)
	for taken[port] {
		port++
	}
	return port
}

func (in *injection) args(port int32) []string {
	allow := make([]string, len(in.ports))
	for i, p := range in.ports {
		allow[i] = strconv.Itoa(int(p.Number))
		if p.IPv6 {
			allow[i] = p.Address()
		}
	}
	args := []string{
		"--listen=:" + strconv.Itoa(int(port)),
		"--allow=" + strings.Join(allow, ","),
		"--trust-keys=" + trustPath + "/" + TrustKey,
		"--await-keys",
		"--pod-uid=$(POD_UID)",
		"--namespace=$(POD_NAMESPACE)",
		"--memory=" + strconv.Itoa(inMemory),
	}
	if in.claims > 0 {
		args = append(args, "--claims="+ClaimsPath, "--claim-bytes="+strconv.FormatInt(in.claims, 10))
	}
	return args
}

func (in *injection) container() corev1.Container {
	port := in.port()
	no, yes := false, true
	user, always := int64(nobody), corev1.ContainerRestartPolicyAlways
	limit := int64(memoryLimit)
	if !in.own() {
		limit += in.claims // files in memory count for whoever has written them
	}
	from := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}
	}
	c := corev1.Container{
		Name: pods.Container, Image: in.image, Args: in.args(port), RestartPolicy: &always,
		Ports: []corev1.ContainerPort{{Name: pods.PortName, ContainerPort: port, Protocol: corev1.ProtocolTCP}},
		Env: []corev1.EnvVar{
			{Name: "POD_UID", ValueFrom: from("metadata.uid")},
			{Name: "POD_NAMESPACE", ValueFrom: from("metadata.namespace")},
		},
		LivenessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: "/.sidestep/healthz", Port: intstr.FromString(pods.PortName), Scheme: corev1.URISchemeHTTP,
			}},
			PeriodSeconds: 10, TimeoutSeconds: 2, FailureThreshold: 6, SuccessThreshold: 1,
		},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("20m"),
				corev1.ResourceMemory: resource.MustParse("32Mi"),
			},
			Limits: corev1.ResourceList{corev1.ResourceMemory: *resource.NewQuantity(limit, resource.BinarySI)},
		},
		SecurityContext: &corev1.SecurityContext{
			RunAsNonRoot: &yes, RunAsUser: &user, RunAsGroup: &user,
			AllowPrivilegeEscalation: &no, Privileged: &no, ReadOnlyRootFilesystem: &yes,
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: trustVolume, MountPath: trustPath, ReadOnly: true},
			// In the place of the pod's token, which Kubernetes would
			// otherwise put there: the sidecar has nothing to ask it.
			{Name: noTokenVolume, MountPath: tokenPath, ReadOnly: true},
		},
	}
	if in.claims > 0 {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: ClaimsVolume, MountPath: ClaimsPath})
	}
	return c
}

// volumes adds those of the sidecar, and shows the one for claims to the steps.
func (in *injection) volumes() {
	s := &in.pod.Spec
	optional := true
	s.Volumes = append(s.Volumes,
		corev1.Volume{Name: trustVolume, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: TrustName}, Optional: &optional,
		}}},
		corev1.Volume{Name: noTokenVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	)
	if in.claims == 0 {
		return
	}
	if !in.own() {
		s.Volumes = append(s.Volumes, corev1.Volume{Name: ClaimsVolume, VolumeSource: corev1.VolumeSource{
			EmptyDir: &corev1.EmptyDirVolumeSource{
				Medium: corev1.StorageMediumMemory, SizeLimit: resource.NewQuantity(in.claims, resource.BinarySI),
			},
		}})
	}
	for i := range s.Containers {
		c := &s.Containers[i]
		if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
			return m.Name == ClaimsVolume || m.MountPath == ClaimsPath
		}) {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: ClaimsVolume, MountPath: ClaimsPath})
		}
	}
}
