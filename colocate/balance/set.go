package balance

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Replica is a pod as a member of a set.
type Replica struct {
	// ID names the pod in all sets.
	ID string
	// Zone is where it runs; empty if that is not known.
	Zone string
	// Weight is its declared share of the work beside the other members; 1 if it
	// is not positive.
	Weight int
	// Steps are the names of steps in its reports, by what the callers of
	// SpillAfter and HandOff call them; what is not in it has the same name.
	// It must not change.
	Steps map[string]string
}

// Set is the replicas that hold the same steps of a chain. It is safe for
// concurrent use. Close it when it is no longer needed.
type Set struct {
	b     *Balancer
	turn  atomic.Uint64 // of RoundRobin and Weighted
	state atomic.Pointer[state]
	sweep sweep

	mu sync.Mutex // serializes Update
}

// state is the replicas of a set at one time. It is not changed once it is
// published.
type state struct {
	all, near *tier // near: those in our zone, or nil
}

// member is what a set knows of one of its replicas.
type member struct {
	*pod
	names     atomic.Pointer[map[string]string] // see Replica.Steps
	health    health
	saturated atomic.Int64 // time.Duration: left out until then
}

// NewSet returns a set of replicas.
func (b *Balancer) NewSet(replicas ...Replica) *Set {
	s := &Set{b: b}
	s.state.Store(&state{all: &tier{}})
	s.Update(replicas)
	return s
}

// Update replaces the replicas. What is known of those that stay is kept; of
// two with the same ID the first counts.
func (s *Set) Update(replicas []Replica) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, zone := s.state.Load(), *s.b.zone.Load()
	var all, near []candidate
	seen := make(map[string]bool, len(replicas))
	for _, r := range replicas {
		if seen[r.ID] {
			continue
		}
		seen[r.ID] = true
		c := candidate{member: old.all.find(r.ID), weight: max(1, r.Weight)}
		if c.member == nil {
			c.member = &member{pod: s.b.acquire(r.ID)}
		}
		c.names.Store(&r.Steps)
		all = append(all, c)
		if r.Zone != "" && r.Zone == zone {
			near = append(near, c)
		}
	}
	next := &state{all: newTier(all, old.all)}
	if len(near) > 0 && len(near) < len(all) {
		next.near = newTier(near, old.near)
	}
	s.state.Store(next)
	for _, c := range old.all.candidates {
		if !seen[c.id] {
			s.b.release(c.pod)
		}
	}
}

// Close gives up all replicas.
func (s *Set) Close() { s.Update(nil) }

// Pick chooses the replica that gets a chain, but none of exclude. It is false
// when there is none: all are excluded, left out or gone; NextFree tells when
// one will be back. key is what Maglev goes by, other policies do not look at it.
//
// Done of the Choice must be called exactly once.
func (s *Set) Pick(key string, exclude ...string) (Choice, bool) {
	st, now, policy := s.state.Load(), s.b.now(), Policy(s.b.policy.Load())
	q := query{set: s, now: now, exclude: exclude, panics: s.panics(st, now)}
	if st.near == nil || (policy == Maglev && key != "") {
		return q.choose(st.all.pick(policy, key, &q))
	}
	m := st.near.pick(policy, key, &q)
	switch {
	case m == nil:
		m = st.all.pick(policy, key, &q)
	case m.wait("", now) > 0:
		// It makes us wait. Another zone is worth it when that is quicker.
		if far := st.all.pick(policy, key, &q); far != m && far.delay(now) < m.delay(now) {
			m = far
		}
	}
	return q.choose(m)
}

// NextFree is how long it takes until a replica is back that was saturated at
// the door; 0 if none is left out for that reason.
func (s *Set) NextFree() time.Duration {
	st, now := s.state.Load(), s.b.now()
	var soonest time.Duration
	for _, c := range st.all.candidates {
		if left := time.Duration(c.saturated.Load()) - now; left > 0 && (soonest == 0 || left < soonest) {
			soonest = left
		}
	}
	return soonest
}

// query is one Pick: which members it may return.
type query struct {
	set     *Set
	now     time.Duration
	exclude []string
	panics  bool // ejections do not count
}

// allows tells whether a member may be picked.
func (q *query) allows(m *member) bool {
	return m.saturated.Load() <= int64(q.now) &&
		(q.panics || !m.health.ejected(q.now)) &&
		(len(q.exclude) == 0 || !slices.Contains(q.exclude, m.id))
}

func (q *query) choose(m *member) (Choice, bool) {
	if m == nil {
		return Choice{}, false
	}
	m.own.Add(1)
	return Choice{q.set, m, q.now}, true
}

// Choice is a replica that got a chain.
type Choice struct {
	set    *Set
	member *member
	since  time.Duration
}

// Replica is the ID of the pod.
func (c Choice) Replica() string { return c.member.id }

// Result is what became of a chain in a pod, as far as it tells of the pod.
type Result uint8

const (
	// Abandoned tells nothing: the caller gave up before there was an answer.
	Abandoned Result = iota
	// Succeeded is any answer of the sidecar but a 503: chains that were
	// completed and those that were spilled.
	Succeeded
	// Failed: unreachable, cut short, not an answer of the sidecar; or a spill
	// because a step could not be reached.
	Failed
	// Saturated: 503 at the door. It is not a failure.
	Saturated
)

// Outcome is how a chain ended in a pod.
type Outcome struct {
	Result Result
	// RetryAfter is what a saturated pod asked for. Its report may tell more
	// precisely when it will have a place; the shorter one counts.
	RetryAfter time.Duration
	// Report is what the answer said of the pod's load; nil if nothing. It is not
	// kept.
	Report *Report
	// Bytes were exchanged, in both directions together.
	Bytes int64
}

// Done takes the chain off the replica, and learns from how it ended. The time
// since Pick counts as the time that the chain took.
func (c Choice) Done(o Outcome) {
	now, m := c.set.b.now(), c.member
	m.own.Add(-1)
	m.learn(now, now-c.since, &o)
	switch o.Result {
	case Saturated:
		m.saturated.Store(int64(now + c.set.leaveOut(m, now, &o)))
	case Succeeded:
		m.saturated.Store(0)
		c.set.account(m, now, true)
	case Failed:
		c.set.account(m, now, false)
	}
}
