package standalone

import (
	"errors"
	"fmt"

	"github.com/sidestep-dev/sidestep/colocate"
	"github.com/sidestep-dev/sidestep/internal/slipkey"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// readSlipKey reads or makes the key that slips are signed with.
func (p *process) readSlipKey() (err error) {
	if p.SlipKey != "" {
		if p.slipKey, err = slipkey.File(p.SlipKey); err != nil {
			return err
		}
	}
	return p.checkPods(p.set)
}

// checkPods tells what keeps the pods of a set from being used.
func (p *process) checkPods(set *manifest.Set) error {
	if pods := set.LocalPods(); len(pods) > 0 && p.SlipKey == "" {
		return fmt.Errorf("LocalPod %s/%s: its sidecar runs nothing that is not signed: give a key with --slip-key FILE, which is made if it is absent",
			pods[0].Namespace, pods[0].Name)
	}
	return nil
}

// usePods has chains run in the pods of a set from now on, chosen by its policy.
func (p *process) usePods(set *manifest.Set) error {
	return errors.Join(p.replica.SetPods(podMap(set, p.Zone)), p.replica.SetRouting(set.Config.Dispatch.Routing))
}

// podMap is what the files say of pods, for a process in a zone.
func podMap(set *manifest.Set, zone string) *colocate.Map {
	m := &colocate.Map{Zone: zone}
	services := set.ColocatedServices()
	for _, l := range set.LocalPods() {
		pod := colocate.Pod{
			ID: l.Namespace + "/" + l.Name, Namespace: l.Namespace, Sidecar: l.Sidecar, Zone: l.Zone, Weight: l.Weight,
			Ports: make(map[string]uint16, len(l.Steps)),
		}
		for _, s := range l.Steps {
			if name := l.Namespace + "/" + s.Service; services[name] != "" {
				pod.Ports[name] = s.Port
			}
		}
		if len(pod.Ports) > 0 { // else all of its Services opted out
			m.Pods = append(m.Pods, pod)
		}
	}
	for name, address := range services {
		if host := colocate.HostOf(address); host != "" {
			m.Services = append(m.Services, colocate.Service{Name: name, Hosts: []string{host}})
		}
	}
	return m
}
