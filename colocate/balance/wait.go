package balance

import (
	"math"
	"time"
)

// How quickly a report loses its worth: with the time that chains take, as that
// is how quickly a queue changes, within bounds.
const (
	fadesAfter = 10
	minFade    = 10 * time.Millisecond
	maxFade    = 10 * time.Second
)

// wait is how long a chain that comes now has to wait for a place at a step;
// for that of all steps that has the longest wait if step is empty.
func (p *pod) wait(step string, now time.Duration) time.Duration {
	return seconds(p.waitSeconds(step, now))
}

func (p *pod) waitSeconds(step string, now time.Duration) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if step != "" {
		if s := p.step(step); s != nil {
			return p.expect(s, now)
		}
		return 0
	}
	longest := 0.0
	for i := range p.steps {
		longest = max(longest, p.expect(&p.steps[i], now))
	}
	return longest
}

// expect is the wait at a step of which we have a report.
func (p *pod) expect(s *Load, now time.Duration) float64 {
	if s.Limit == 0 {
		return 0
	}
	service := s.ServiceTime.Seconds()
	if service == 0 {
		service = p.elapsed.v
	}
	reported := float64(s.InFlight + s.Queue)
	mine := min(reported, float64(p.ownThen))
	backlog := max(0, mine+float64(p.own.Load()-p.ownThen)) + (reported-mine)*p.worth(now)
	return max(0, backlog+1-float64(s.Limit)) * service / float64(s.Limit)
}

// delay is how much later an answer of this pod comes than that of one next
// door that is idle.
func (p *pod) delay(now time.Duration) float64 {
	wait := p.waitSeconds("", now)
	p.mu.Lock()
	defer p.mu.Unlock()
	return wait + p.link.roundTrip
}

// dearness bounds by how much a hand-over has to be worth its while: in transfers
// of its payload.
const dearness = 4

// SpillAfter is how long a chain that is in a replica may wait there for a place
// at a step before it is given back: 0 if, as far as is known, the wait there is
// longer than a hand-over to another replica takes, with the transfer of a
// payload of that many bytes out and in, and its wait there. A payload takes the
// links from others as well, and what is known of a wait is never exact, so the
// larger it is the more must be won, up to as much again. Else it is limit: a
// wait that has begun is no reason to begin another one at the end of a longer
// queue. (Both shorter waits and waits that grow with what is known were compared in
// a simulation; either lets chains change places for nothing when all pods are
// equally busy.)
func (s *Set) SpillAfter(replica, step string, payload int64, limit time.Duration, exclude ...string) time.Duration {
	st, now := s.state.Load(), s.b.now()
	here := st.all.find(replica)
	if here == nil || len(st.all.candidates) < 2 {
		return limit
	}
	q := query{set: s, now: now, exclude: exclude, panics: s.panics(st, now)}
	other, there := q.soonest(st.all, here, step, payload)
	if other == nil {
		return limit
	}
	out, in := here.transfer(payload), other.transfer(payload)
	handOver := out + there
	if here.waitSeconds(here.reported(step), now) > handOver+min(handOver, dearness*(out+in)) {
		return 0
	}
	return limit
}

// HandOff chooses the replica where a payload that is in our hands, and of which
// a pod had no room for the next step, is likely to have that step running
// soonest. It is false when there is none but exclude. Done of the Choice must be
// called exactly once.
func (s *Set) HandOff(step string, payload int64, exclude ...string) (Choice, bool) {
	st, now := s.state.Load(), s.b.now()
	q := query{set: s, now: now, exclude: exclude, panics: s.panics(st, now)}
	m, _ := q.soonest(st.all, nil, step, payload)
	return q.choose(m)
}

// sample bounds how many replicas are compared.
const sample = 8

// soonest is the member, other than but, that would have the step running
// first, and in how many seconds: for ever, if there is none.
func (q *query) soonest(t *tier, but *member, step string, payload int64) (*member, float64) {
	n := len(t.candidates)
	from := 0
	if n > sample {
		from = int(q.set.b.cfg.Rand() >> 32 * uint64(n) >> 32)
	}
	var best *member
	first := math.Inf(1)
	for k, seen := 0, 0; k < n && seen < sample; k++ {
		m := t.candidates[(from+k)%n].member
		if m == but || !q.allows(m) {
			continue
		}
		seen++
		if at := m.arrival(step, payload, q.now); at < first {
			best, first = m, at
		}
	}
	return best, first
}

// reported is a step's name in the reports of a member.
func (m *member) reported(step string) string {
	if name, ok := (*m.names.Load())[step]; ok {
		return name
	}
	return step
}

// arrival is in how many seconds a payload that we send now gets its place at
// the step.
func (m *member) arrival(step string, payload int64, now time.Duration) float64 {
	wait := m.waitSeconds(m.reported(step), now)
	p := m.pod
	p.mu.Lock()
	defer p.mu.Unlock()
	return wait + p.link.roundTrip + p.link.transfer(payload)
}

func (p *pod) transfer(payload int64) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link.transfer(payload)
}

// leaveOut is how long a member stays out that was saturated at the door.
func (s *Set) leaveOut(m *member, now time.Duration, o *Outcome) time.Duration {
	d := min(max(o.RetryAfter, 0), s.b.cfg.MaxRetryAfter)
	if o.Report != nil {
		if w := m.wait("", now); w > 0 {
			d = min(d, w)
		}
	}
	return max(d, time.Millisecond)
}

func seconds(s float64) time.Duration {
	return time.Duration(min(s, MaxTime.Seconds()) * float64(time.Second))
}
