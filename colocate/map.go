package colocate

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Map says which Services' steps run in which pods. Whoever makes it hands it
// over, and does not change it afterwards.
type Map struct {
	Services []Service
	Pods     []Pod
	// Zone is where this process runs, "" if that is not known. Pods of it are
	// preferred while they have room.
	Zone string
}

// Service is a Service whose pods have a sidecar, unless it opted out.
type Service struct {
	// Name is "namespace/name".
	Name string
	// Hosts are the hosts and ports by which the URLs of subscribers name it;
	// port 80 is left out. A host of two Services names none. HOST/STEP names what the
	// path of a URL begins with: the step is called at what is left of the path.
	Hosts []string
}

// Pod is a pod with a sidecar.
type Pod struct {
	// ID names the pod in this process; its UID where there is one.
	ID string
	// UID must be the one that the sidecar tells. "": whatever it tells.
	UID       string
	Namespace string
	// Sidecar is the URL of its sidecar, http, without a path.
	Sidecar string
	// Zone is where the pod runs, "" if that is not known; Weight its share of
	// the work where the policy goes by it, 1 if it is not positive.
	Zone   string
	Weight int
	// OnDemand: it is asked who it is when there is a chain for it, and no sooner, since
	// to ask would start it. It stands for all pods behind the URL, and UID for what
	// they all tell.
	OnDemand bool
	// Ports are those at which the pod's steps listen on loopback, by Service.Name.
	Ports map[string]uint16
}

// Validate tells what is wrong with m, all of it.
func (m *Map) Validate() error {
	var errs []error
	known := make(map[string]bool, len(m.Services))
	for i := range m.Services {
		name := m.Services[i].Name
		switch {
		case name == "":
			errs = append(errs, fmt.Errorf("service number %d has no name", i+1))
		case known[name]:
			errs = append(errs, fmt.Errorf("service %s is there twice", name))
		}
		known[name] = true
	}
	pods := make(map[string]bool, len(m.Pods))
	for i := range m.Pods {
		p := &m.Pods[i]
		if pods[p.ID] {
			errs = append(errs, fmt.Errorf("pod %s is there twice", p.ID))
		}
		pods[p.ID] = true
		if err := p.validate(); err != nil {
			errs = append(errs, fmt.Errorf("pod %s: %w", p.ID, err))
		}
	}
	return errors.Join(errs...)
}

func (p *Pod) validate() error {
	if p.ID == "" {
		return errors.New("has no ID")
	}
	u, err := url.Parse(p.Sidecar)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.User != nil {
		return fmt.Errorf("sidecar %q: want http://HOST:PORT and nothing after it", p.Sidecar)
	}
	if len(p.Ports) == 0 {
		return errors.New("has no steps")
	}
	for name, port := range p.Ports {
		if port == 0 {
			return fmt.Errorf("service %s: port 0", name)
		}
	}
	return nil
}

// hostOf is what a Service's Hosts have for a URL of http, "" for another one.
func hostOf(u *url.URL) string {
	if u.Scheme != "http" {
		return ""
	}
	host := strings.ToLower(u.Hostname())
	if port := u.Port(); port != "" && port != "80" {
		return net.JoinHostPort(host, port)
	}
	return host
}

// within splits a path that names a step: "/resize/small" is "/small" of resize.
func within(u *url.URL) (step, path string) {
	step, rest, _ := strings.Cut(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	path = "/" + rest
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	return step, path
}

// HostOf is the host by which a subscriber's URL names its Service, as in
// Service.Hosts; "" if the URL is none of http.
func HostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return hostOf(u)
}

// index is a Map as plans are made from it: what may be used now. It is not
// changed once it is published.
type index struct {
	generation uint64
	hosts      map[string]string // Service.Name by host
	holders    map[string][]*pod // by Service.Name: those that can be used
	sleeping   map[string][]*pod // those that are asked on demand, and were not
}

// hostsOf leaves out what is ambiguous.
func hostsOf(m *Map) map[string]string {
	hosts := make(map[string]string)
	twice := make(map[string]bool)
	for i := range m.Services {
		s := &m.Services[i]
		for _, h := range s.Hosts {
			if other, taken := hosts[h]; taken && other != s.Name {
				twice[h] = true
			}
			hosts[h] = s.Name
		}
	}
	for h := range twice {
		delete(hosts, h)
	}
	return hosts
}
