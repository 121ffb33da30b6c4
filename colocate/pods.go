package colocate

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/colocate/balance"
	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// Config of Pods. Key and Sender are required.
type Config struct {
	// Key signs slips; the sidecars trust its public half.
	Key ed25519.PrivateKey
	// Sender posts to sidecars; that of the engine will do.
	Sender egress.Sender
	// Balance says how replicas are chosen, see balance.Config.
	Balance balance.Config
	Logger  *slog.Logger
}

// Pods runs chains in pods. It is safe for concurrent use.
type Pods struct {
	sender   egress.Sender
	signer   atomic.Pointer[wire.Signer]
	balancer *balance.Balancer
	shaker   *handshaker
	logger   *slog.Logger

	index atomic.Pointer[index]
	plans atomic.Uint64 // numbers plans

	life  context.Context //nolint:containedctx // it is that of the handshakes
	end   context.CancelFunc
	shake sync.WaitGroup

	mu     sync.Mutex
	mapped *Map
	pods   map[string]*pod // by ID
	sets   map[string]*set // by the names of their steps
	closed bool
}

var _ channel.Pods = (*Pods)(nil)

// set is the replicas that hold the same steps in a row.
type set struct {
	*balance.Set
	services []string
	holders  atomic.Pointer[map[string]*pod] // by ID
	used     atomic.Int64                    // when last, in seconds
}

// setIdle is how long a set is kept that no plan has.
const setIdle = 10 * time.Minute

// New makes Pods that know none yet. Close frees it.
func New(c Config) (*Pods, error) {
	if c.Sender == nil {
		return nil, errors.New("configure pods: no sender")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Balance.Ejected == nil {
		c.Balance.Ejected = func(id string, d time.Duration) {
			c.Logger.Warn("a pod failed again and again; it is left out", "pod", id, "for", d)
		}
	}
	b, err := balance.New(c.Balance)
	if err != nil {
		return nil, fmt.Errorf("configure pods: %w", err)
	}
	p := &Pods{
		sender: c.Sender, balancer: b, shaker: newHandshaker(), logger: c.Logger,
		mapped: new(Map), pods: make(map[string]*pod), sets: make(map[string]*set),
	}
	if err := p.SetKey(c.Key); err != nil {
		return nil, fmt.Errorf("configure pods: %w", err)
	}
	p.life, p.end = context.WithCancel(context.Background())
	p.index.Store(&index{})
	return p, nil
}

// SetPolicy changes how replicas are chosen from now on.
func (p *Pods) SetPolicy(policy balance.Policy) error { return p.balancer.SetPolicy(policy) }

// Usable is how many pods have a sidecar that answers well, as far as is known.
func (p *Pods) Usable() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, d := range p.pods {
		if d.usable.Load() != nil {
			n++
		}
	}
	return n
}

// SetKey changes the key that slips are signed with from now on. Sidecars should
// trust it by then: until one does, its steps are called by their addresses.
func (p *Pods) SetKey(key ed25519.PrivateKey) error {
	if len(key) != ed25519.PrivateKeySize {
		return fmt.Errorf("the key has %d bytes, want %d", len(key), ed25519.PrivateKeySize)
	}
	p.signer.Store(wire.NewSigner(key))
	return nil
}

// Close forgets all pods: every later Run is not run. It returns when no
// goroutine is left.
func (p *Pods) Close() {
	p.mu.Lock()
	p.closed = true
	p.mapped = new(Map)
	p.keepPods()
	p.publish()
	p.mu.Unlock()
	p.end()
	p.shake.Wait()
}

// SetMap replaces what is known. Pods that are new are used once their sidecars
// have answered; those that stay as they were, go on. An error changes nothing.
func (p *Pods) SetMap(m *Map) error {
	if err := m.Validate(); err != nil {
		return fmt.Errorf("map of pods: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.New("map of pods: closed")
	}
	p.mapped = m
	p.balancer.SetZone(m.Zone)
	p.keepPods()
	p.publish()
	return nil
}

// keepPods makes p.pods those of the Map. It is called with p.mu held.
func (p *Pods) keepPods() {
	wanted := make(map[string]*Pod, len(p.mapped.Pods))
	for i := range p.mapped.Pods {
		wanted[p.mapped.Pods[i].ID] = &p.mapped.Pods[i]
	}
	for id, old := range p.pods {
		if w := wanted[id]; w == nil || !old.same(w) {
			old.stop()
			delete(p.pods, id)
		}
	}
	for id, w := range wanted {
		if p.pods[id] == nil {
			p.pods[id] = newPod(*w)
			if !w.OnDemand {
				p.greet(p.pods[id])
			}
		}
	}
}

// stop ends a handshake that is under way.
func (p *pod) stop() {
	if p.cancel != nil {
		p.cancel()
		p.cancel = nil
	}
}

// rouse has sidecars asked who they are that are on demand, and hold more than one step of
// a chain.
func (p *Pods) rouse(x *index, services []string) {
	for _, d := range x.sleeping[services[0]] {
		if d.holds(services) < 2 {
			continue
		}
		p.mu.Lock()
		if p.pods[d.ID] == d && !p.closed && d.cancel == nil && d.usable.Load() == nil {
			p.greet(d)
		}
		p.mu.Unlock()
	}
}

// greet has the pod's sidecar asked who it is. It is called with p.mu held.
func (p *Pods) greet(d *pod) {
	limit := time.Duration(math.MaxInt64)
	if d.OnDemand {
		limit = onDemand
	}
	ctx, cancel := context.WithTimeout(p.life, limit)
	d.cancel = cancel
	p.shake.Go(func() {
		defer cancel()
		if d.OnDemand {
			defer p.sleepAgain(d)
		}
		if !d.rest(ctx) {
			return
		}
		shake, ok := p.shaker.untilUsable(ctx, d, func(err error) {
			p.logger.Warn("a pod's sidecar cannot be used; its steps are called by their addresses",
				"pod", d.ID, "sidecar", d.Sidecar, "error", err)
		})
		if !ok {
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.pods[d.ID] != d || p.closed {
			return
		}
		d.cancel = nil
		d.usable.Store(shake)
		p.logger.Info("a pod's sidecar is used", "pod", d.ID, "sidecar", d.Sidecar)
		p.publish()
	})
}

// sleepAgain has a pod that is asked on demand, and did not answer well, be asked again
// with the next chain.
func (p *Pods) sleepAgain(d *pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pods[d.ID] == d && !p.closed && d.usable.Load() == nil {
		d.cancel = nil
		p.publish()
	}
}

// doubt stops using a pod until its sidecar has answered again.
func (p *Pods) doubt(d *pod, told *wire.Handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pods[d.ID] != d || p.closed || !d.usable.CompareAndSwap(told, nil) {
		return
	}
	p.publish()
	d.doubts.Add(1)
	p.greet(d)
}

// publish makes the index anew, and tells the sets. It is called with p.mu held.
func (p *Pods) publish() {
	x := &index{
		generation: p.index.Load().generation + 1,
		hosts:      hostsOf(p.mapped),
		holders:    make(map[string][]*pod),
		sleeping:   make(map[string][]*pod),
	}
	ids := make([]string, 0, len(p.pods))
	for id, d := range p.pods {
		if d.usable.Load() != nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, d := range p.pods {
		if d.OnDemand && d.usable.Load() == nil {
			for name := range d.Ports {
				x.sleeping[name] = append(x.sleeping[name], d)
			}
		}
	}
	for _, id := range ids {
		for name := range p.pods[id].Ports {
			x.holders[name] = append(x.holders[name], p.pods[id])
		}
	}
	p.index.Store(x)
	now := time.Now()
	for key, s := range p.sets {
		if now.Sub(time.Unix(s.used.Load(), 0)) > setIdle {
			s.Close()
			delete(p.sets, key)
			continue
		}
		s.update(x)
	}
}

// set finds or makes the set of the pods that hold the services.
func (p *Pods) set(services []string) *set {
	key := strings.Join(services, "\n")
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sets[key]
	if s == nil {
		s = &set{Set: p.balancer.NewSet(), services: slices.Clone(services)}
		s.used.Store(time.Now().Unix())
		s.update(p.index.Load())
		p.sets[key] = s
	}
	return s
}

func (s *set) update(x *index) {
	holders := make(map[string]*pod)
	var replicas []balance.Replica
	for _, d := range x.holders[s.services[0]] {
		if d.holds(s.services) < len(s.services) {
			continue
		}
		holders[d.ID] = d
		replicas = append(replicas, balance.Replica{ID: d.ID, Zone: d.Zone, Weight: d.Weight, Steps: d.steps})
	}
	s.holders.Store(&holders)
	s.Update(replicas)
}

// holds is how many of the services, from the first on, the pod has.
func (p *pod) holds(services []string) int {
	for i, name := range services {
		if _, ok := p.Ports[name]; !ok {
			return i
		}
	}
	return len(services)
}
