package colocate

import (
	"encoding/base64"
	"net/url"
	"strconv"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// plan is what can be done with a Chain as long as the index is the same.
type plan struct {
	of         *Pods
	generation uint64
	timeout    time.Duration // of steps without one
	calls      []call        // of the steps that have a service, up to the first that has none
	keys       []string      // of slips to the signer's cache, by their number of steps
	runs       []run         // the longest first
}

// call is a step as it is called within a pod.
type call struct {
	step    *channel.Subscription
	service string
	wire    wire.Step // without its port
}

// run is the first steps of a chain, and those that hold them.
type run struct {
	steps int
	set   *set
}

// plan finds or makes the plan of a chain.
func (p *Pods) plan(r *channel.PodRun) *plan {
	x := p.index.Load()
	if l, ok := r.Chain.Memo.Load().(*plan); ok && l.of == p && l.generation == x.generation && l.timeout == r.AttemptTimeout {
		return l
	}
	l := &plan{of: p, generation: x.generation, timeout: r.AttemptTimeout}
	services := l.resolve(x, r.Chain)
	number := strconv.FormatUint(p.plans.Add(1), 36)
	for n := range services {
		l.keys = append(l.keys, number+"/"+strconv.Itoa(n+1))
	}
	lengths := map[int]bool{}
	if len(services) > 0 {
		p.rouse(x, services)
		for _, d := range x.holders[services[0]] {
			lengths[d.holds(services)] = true
		}
	}
	for n := len(services); n > 0; n-- {
		if lengths[n] {
			l.runs = append(l.runs, run{n, p.set(services[:n])})
		}
	}
	r.Chain.Memo.Store(l)
	return l
}

// resolve finds the services of the steps, up to the first that has none.
func (l *plan) resolve(x *index, c *channel.Chain) (services []string) {
	for _, s := range c.Steps {
		u, err := url.Parse(s.Subscriber.URL)
		if err != nil {
			break
		}
		host, path := hostOf(u), u.RequestURI()
		service := x.hosts[host]
		if service == "" && host != "" {
			var step string
			step, path = within(u)
			service = x.hosts[host+"/"+step]
		}
		if service == "" {
			break
		}
		w := wire.Step{
			UID: s.UID, Path: path, Host: u.Host, Namespace: s.Namespace, Timeout: s.Policy.Timeout,
			Reference: s.Subscriber.Reference, Format: s.Policy.Format,
		}
		if w.Timeout == 0 {
			w.Timeout = l.timeout
		}
		if w.Timeout > wire.MaxTimeout {
			break
		}
		if u.User != nil {
			password, _ := u.User.Password()
			w.Authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
		}
		services = append(services, service)
		l.calls = append(l.calls, call{s, service, w})
	}
	return services
}

// slip is for the first n steps in a pod.
func (l *plan) slip(d *pod, uid string, n int) *wire.Slip {
	s := &wire.Slip{Pod: uid, Namespace: d.Namespace, Steps: make([]wire.Step, n)}
	for i := range n {
		s.Steps[i] = l.calls[i].wire
		s.Steps[i].Port = d.Ports[l.calls[i].service]
	}
	last := l.calls[n-1].step
	s.Discard = last.Reply == nil
	s.Entering = last.Reply != nil && last.Reply.Channel == "" && last.DeadLetter != nil
	return s
}

// timeoutOf is the time that the first n steps may take, all in all.
func (l *plan) timeoutOf(n int) (sum time.Duration) {
	for i := range n {
		sum += l.calls[i].wire.Timeout
	}
	return min(sum, wire.MaxTimeout)
}

// key names the slip for the first n steps to the signer's cache.
func (l *plan) key(n int) string { return l.keys[n-1] }
