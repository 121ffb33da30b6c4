package balance

import (
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// pod is what is known of a pod, whichever set its chains were picked from.
type pod struct {
	id   string
	sets int // that have it; guarded by Balancer.mu

	// What Pick reads, without a lock.
	own    atomic.Int64  // our chains that are there now
	others atomic.Uint64 // float64: chains of others, by its last report
	fades  atomic.Int64  // time.Duration: how quickly a report loses its worth
	seen   atomic.Int64  // time.Duration: when the last report came

	mu      sync.Mutex
	ownThen int64 // our chains when the last report came
	steps   []Load
	elapsed average // seconds that a chain takes, network included
	link    link
}

// learn takes what one chain's end tells.
func (p *pod) learn(now, elapsed time.Duration, o *Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.Result == Succeeded {
		p.elapsed.add(elapsed.Seconds())
		p.fades.Store(int64(min(max(time.Duration(fadesAfter*p.elapsed.v*float64(time.Second)), minFade), maxFade)))
	}
	if o.Report == nil {
		return
	}
	if o.Result == Succeeded && o.Report.Elapsed > 0 {
		p.link.learn(elapsed-o.Report.Elapsed, o.Bytes)
	}
	p.ownThen = p.own.Load()
	for i := range p.steps {
		p.steps[i].InFlight, p.steps[i].Queue = 0, 0 // one that is not reported is idle
	}
	total := 0
	for i := range o.Report.Steps {
		s := &o.Report.Steps[i]
		total += s.InFlight + s.Queue
		p.store(s)
	}
	p.others.Store(math.Float64bits(float64(max(0, int64(total)-p.ownThen))))
	p.seen.Store(int64(now))
}

// store keeps a copy of a step's load. Beyond MaxSteps names new ones are not
// taken: a pod has no reason to change its steps' names.
func (p *pod) store(s *Load) {
	if old := p.step(s.Step); old != nil {
		name := old.Step
		*old = *s
		old.Step = name
		return
	}
	if len(p.steps) < MaxSteps {
		p.steps = append(p.steps, *s)
		p.steps[len(p.steps)-1].Step = strings.Clone(s.Step)
	}
}

func (p *pod) step(name string) *Load {
	for i := range p.steps {
		if p.steps[i].Step == name {
			return &p.steps[i]
		}
	}
	return nil
}

// load is how many chains are there, as far as we know.
func (p *pod) load(now time.Duration) float64 {
	own := float64(p.own.Load())
	others := math.Float64frombits(p.others.Load())
	if others == 0 {
		return own
	}
	return own + others*p.worth(now)
}

// worth is what is left of the last report's truth about others, from 1 to 0.
func (p *pod) worth(now time.Duration) float64 {
	fades := p.fades.Load()
	if fades == 0 {
		fades = int64(minFade)
	}
	return math.Exp(-float64(max(0, int64(now)-p.seen.Load())) / float64(fades))
}
