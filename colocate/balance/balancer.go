package balance

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a [Balancer] works by. The zero value is useful.
type Config struct {
	// Policy chooses among the replicas of a set; LeastRequest if zero. See
	// SetPolicy.
	Policy Policy
	// Zone is where this process runs; replicas in it are preferred. Empty: no
	// zone is. See SetZone.
	Zone string
	// Outlier says when a replica that fails is left out, and for how long.
	Outlier Outlier
	// MaxRetryAfter bounds how long a replica is left out that was saturated at
	// the door, whatever it asked for; 1s if zero.
	MaxRetryAfter time.Duration
	// RoundTrip and BytesPerSecond stand for the network to a pod until they
	// were measured; 1ms and 100e6 if zero.
	RoundTrip      time.Duration
	BytesPerSecond float64
	// Ejected is told when a replica is left out because it failed, and for how
	// long; may be nil. It must return quickly and not call back.
	Ejected func(replica string, d time.Duration)
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Rand returns 64 random bits; math/rand/v2 if nil. It must be safe for
	// concurrent use.
	Rand func() uint64
}

// Validate says what is wrong with a configuration.
func (c *Config) Validate() error {
	switch {
	case !c.Policy.valid():
		return fmt.Errorf("policy: %d is unknown", c.Policy)
	case c.MaxRetryAfter < 0:
		return fmt.Errorf("longest Retry-After: %v, must not be negative", c.MaxRetryAfter)
	case c.RoundTrip < 0:
		return fmt.Errorf("assumed round trip: %v, must not be negative", c.RoundTrip)
	case !(c.BytesPerSecond >= 0):
		return fmt.Errorf("assumed rate: %v bytes per second, must not be negative", c.BytesPerSecond)
	}
	if err := c.Outlier.validate(); err != nil {
		return fmt.Errorf("outliers: %w", err)
	}
	return nil
}

func (c *Config) setDefaults() {
	c.MaxRetryAfter = or(c.MaxRetryAfter, time.Second)
	c.RoundTrip = or(c.RoundTrip, time.Millisecond)
	c.BytesPerSecond = or(c.BytesPerSecond, 100e6)
	c.Outlier.setDefaults()
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Uint64
	}
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Balancer knows the pods of a process. It is safe for concurrent use.
type Balancer struct {
	cfg    Config
	epoch  time.Time
	policy atomic.Uint32
	zone   atomic.Pointer[string]

	mu   sync.Mutex
	pods map[string]*pod // by id, for as long as a set has them
}

// New returns a Balancer that knows no pod yet.
func New(c Config) (*Balancer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.setDefaults()
	b := &Balancer{cfg: c, epoch: c.Now(), pods: map[string]*pod{}}
	b.policy.Store(uint32(c.Policy))
	b.zone.Store(&c.Zone)
	return b, nil
}

// SetPolicy changes how all sets choose from now on. What is known of the
// replicas stays. It fails when p is unknown.
func (b *Balancer) SetPolicy(p Policy) error {
	if !p.valid() {
		return fmt.Errorf("policy: %d is unknown", p)
	}
	b.policy.Store(uint32(p))
	return nil
}

// SetZone says where this process runs. A set goes by it from its next Update on.
func (b *Balancer) SetZone(zone string) { b.zone.Store(&zone) }

// now is the time since the Balancer was made. All times in this package are
// such, as they fit into an atomic.
func (b *Balancer) now() time.Duration { return b.cfg.Now().Sub(b.epoch) }

// acquire returns the pod of an id for one more set.
func (b *Balancer) acquire(id string) *pod {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pods[id]
	if p == nil {
		p = &pod{id: id, link: link{
			roundTrip: b.cfg.RoundTrip.Seconds(),
			perByte:   1 / b.cfg.BytesPerSecond,
		}}
		b.pods[id] = p
	}
	p.sets++
	return p
}

// release forgets a pod that no set has any more.
func (b *Balancer) release(p *pod) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.sets--; p.sets == 0 {
		delete(b.pods, p.id)
	}
}
