package balance

import (
	"math"
	"math/rand/v2"
	"time"
)

// workload is a random history: the same for all that are compared.
type workload struct {
	ours, background []chain
}

type chain struct {
	at    time.Duration
	costs [2]time.Duration
}

type experiment struct {
	load       float64 // of the capacity of all
	background float64 // share of the load
	places     int     // per pod and step
	cost       time.Duration
	oneWay     time.Duration
	payload    int64
	rate       float64 // bytes/s, 0 infinite
	chains     int
	pinned     bool
	dist       string
	predict    bool
}

func exp(r *rand.Rand, mean time.Duration, dist string) time.Duration {
	switch dist {
	case "det":
		return mean
	case "uni":
		return time.Duration((0.5 + r.Float64()) * float64(mean))
	}
	return time.Duration(r.ExpFloat64() * float64(mean))
}

func (e *experiment) workload(seed uint64) *workload {
	r := rand.New(rand.NewPCG(seed, 1))
	rate := e.load * 2 * float64(e.places) / float64(e.cost) // chains per ns
	gen := func(n int, rate float64, until time.Duration) (cs []chain) {
		var at float64
		if rate == 0 {
			return nil
		}
		for i := 0; n == 0 || i < n; i++ {
			at += r.ExpFloat64() / rate
			if until > 0 && time.Duration(at) > until {
				break
			}
			cs = append(cs, chain{time.Duration(at), [2]time.Duration{exp(r, e.cost/10, e.dist), exp(r, e.cost, e.dist)}})
		}
		return cs
	}
	ours := gen(e.chains, rate*(1-e.background), 0)
	return &workload{ours, gen(0, rate*e.background, ours[len(ours)-1].at)}
}

type kind uint8

const (
	arriveDispatcher kind = iota
	arrivePod
	finishStep
	giveUp
	answer
)

type event struct {
	at  time.Duration
	seq uint64
	k   kind
	gen uint32
	j   *job
}

type job struct {
	chain
	bg         bool
	pod        int
	step       int
	gen        uint32
	waiting    bool
	spill      bool // came back
	handed     bool
	spillAfter time.Duration
	choice     Choice
	entered    time.Duration
	report     Report
}

type station struct {
	places, busy, waiting int
	queue                 []*job
	service               average
}

type simPod struct {
	steps   [2]station
	in, out time.Duration // link busy until
}

const (
	alwaysLocal = iota
	alwaysRemote
	balanced
	anew // the pod is chosen anew before each step
	compared
)

type sim struct {
	e            *experiment
	policy       int
	now          time.Duration
	seq          uint64
	heap         []event
	pods         []*simPod
	chains, last *Set
	done         []time.Duration
	warm         time.Duration
	spills       int
}

var steps = [2]string{"9101", "9102"}

func (s *sim) push(at time.Duration, k kind, j *job) {
	s.seq++
	s.heap = append(s.heap, event{at, s.seq, k, j.gen, j})
	i := len(s.heap) - 1
	for i > 0 {
		p := (i - 1) / 2
		if !s.less(i, p) {
			break
		}
		s.heap[i], s.heap[p] = s.heap[p], s.heap[i]
		i = p
	}
}

func (s *sim) less(i, j int) bool {
	a, b := &s.heap[i], &s.heap[j]
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

func (s *sim) pop() event {
	e := s.heap[0]
	n := len(s.heap) - 1
	s.heap[0] = s.heap[n]
	s.heap[n] = event{}
	s.heap = s.heap[:n]
	i := 0
	for {
		c := 2*i + 1
		if c >= n {
			break
		}
		if c+1 < n && s.less(c+1, c) {
			c++
		}
		if !s.less(c, i) {
			break
		}
		s.heap[i], s.heap[c] = s.heap[c], s.heap[i]
		i = c
	}
	return e
}

func (e *experiment) run(w *workload, policy int, seed uint64) ([]time.Duration, *sim) {
	s := &sim{e: e, policy: policy}
	r := rand.New(rand.NewPCG(seed, 2))
	rate := e.rate
	b, err := New(Config{Now: func() time.Time { return time.Unix(0, 0).Add(s.now) }, Rand: r.Uint64, BytesPerSecond: rate, RoundTrip: 2 * e.oneWay})
	if err != nil {
		panic(err)
	}
	for range 2 {
		p := &simPod{}
		p.steps[0].places, p.steps[1].places = e.places, e.places
		s.pods = append(s.pods, p)
	}
	s.chains = b.NewSet(Replica{ID: "p0"}, Replica{ID: "p1"})
	s.last = b.NewSet(Replica{ID: "p0"}, Replica{ID: "p1"})
	for i := range w.ours {
		s.push(w.ours[i].at, arriveDispatcher, &job{chain: w.ours[i]})
	}
	for i := range w.background {
		s.push(w.background[i].at, arrivePod, &job{chain: w.background[i], bg: true})
	}
	s.warm = w.ours[len(w.ours)/10].at
	for len(s.heap) > 0 {
		ev := s.pop()
		s.now = ev.at
		s.handle(ev)
	}
	return s.done, s
}

func (s *sim) link(busy *time.Duration) time.Duration {
	if s.e.rate == 0 || s.e.payload == 0 {
		return s.now
	}
	start := max(s.now, *busy)
	*busy = start + time.Duration(float64(s.e.payload)/s.e.rate*1e9)
	return *busy
}

func (s *sim) send(j *job, k Choice) {
	j.choice = k
	j.pod = int(k.Replica()[1] - '0')
	s.push(s.link(&s.pods[j.pod].in)+s.e.oneWay, arrivePod, j)
}

func (s *sim) handle(ev event) {
	j := ev.j
	switch ev.k {
	case arriveDispatcher:
		var c Choice
		if s.e.pinned {
			c, _ = s.chains.Pick("", "p1")
		} else if s.policy == anew {
			c, _ = s.last.HandOff(steps[0], s.e.payload)
		} else {
			c, _ = s.chains.Pick("")
		}
		j.spillAfter = math.MaxInt64
		if s.policy == balanced {
			j.spillAfter = s.last.SpillAfter(c.Replica(), steps[1], s.e.payload, time.Hour)
		}
		s.send(j, c)
	case arrivePod:
		j.entered = s.now
		s.place(j)
	case finishStep:
		st := &s.pods[j.pod].steps[j.step]
		st.busy--
		st.service.add(j.costs[j.step].Seconds())
		s.next(st)
		j.step++
		switch {
		case j.step == 2:
			s.leave(j)
		case (s.policy == alwaysRemote || s.policy == anew) && !j.bg:
			j.spill = true
			s.leave(j)
		default:
			s.place(j)
		}
	case giveUp:
		if j.waiting && j.gen == ev.gen {
			j.waiting = false
			s.pods[j.pod].steps[j.step].waiting--
			j.spill = true
			s.leave(j)
		}
	case answer:
		j.choice.Done(Outcome{Result: Succeeded, Report: &j.report, Bytes: s.bytes()})
		if !j.spill {
			if j.at >= s.warm {
				s.done = append(s.done, s.now-j.at)
			}
			return
		}
		s.spills++
		j.spill, j.handed = false, true
		exclude := []string{j.choice.Replica()}
		if s.policy == anew {
			exclude = nil
		}
		c, ok := s.last.HandOff(steps[1], s.e.payload, exclude...)
		if !ok {
			panic("nobody")
		}
		j.spillAfter = math.MaxInt64
		s.send(j, c)
	}
}

func (s *sim) bytes() int64 { return max(1024, 2*s.e.payload) }

func (s *sim) place(j *job) {
	st := &s.pods[j.pod].steps[j.step]
	if st.busy < st.places {
		st.busy++
		s.push(s.now+j.costs[j.step], finishStep, j)
		return
	}
	if j.step == 1 && !j.bg && !j.handed {
		expected := time.Duration(float64(st.waiting+1) * st.service.v / float64(st.places) * 1e9)
		if j.spillAfter == 0 || s.e.predict && expected > j.spillAfter {
			j.spill = true
			s.leave(j)
			return
		}
		if j.spillAfter < time.Hour && !s.e.predict {
			j.gen++
			s.push(s.now+j.spillAfter, giveUp, j)
		}
	}
	j.waiting = true
	st.waiting++
	st.queue = append(st.queue, j)
}

func (s *sim) next(st *station) {
	for len(st.queue) > 0 && st.busy < st.places {
		j := st.queue[0]
		st.queue = st.queue[1:]
		if !j.waiting {
			continue
		}
		j.waiting = false
		st.waiting--
		st.busy++
		s.push(s.now+j.costs[j.step], finishStep, j)
	}
}

func (s *sim) leave(j *job) {
	if j.bg {
		return
	}
	p := s.pods[j.pod]
	j.report.Elapsed = s.now - j.entered
	j.report.Steps = j.report.Steps[:0]
	for i := range p.steps {
		st := &p.steps[i]
		j.report.Steps = append(j.report.Steps, Load{steps[i], st.busy, st.waiting, st.places, time.Duration(st.service.v * 1e9)})
	}
	s.push(s.link(&p.out)+s.e.oneWay, answer, j)
}

// ideal is one queue for each step, and all servers.
func (e *experiment) ideal(w *workload) []time.Duration {
	s := &sim{e: e}
	p := &simPod{}
	p.steps[0].places, p.steps[1].places = 2*e.places, 2*e.places
	var extra time.Duration
	if e.rate > 0 {
		extra = time.Duration(float64(e.payload) / e.rate * 1e9)
	}
	s.pods = []*simPod{p}
	for i := range w.ours {
		j := &job{chain: w.ours[i]}
		s.push(j.at+e.oneWay+extra, arrivePod, j)
	}
	for i := range w.background {
		s.push(w.background[i].at, arrivePod, &job{chain: w.background[i], bg: true})
	}
	warm := w.ours[len(w.ours)/10].at
	for len(s.heap) > 0 {
		ev := s.pop()
		s.now = ev.at
		j := ev.j
		switch ev.k {
		case arrivePod:
			j.handed = true
			s.place(j)
		case finishStep:
			st := &p.steps[j.step]
			st.busy--
			s.next(st)
			if j.step++; j.step == 1 {
				s.place(j)
			} else if !j.bg && j.at >= warm {
				s.done = append(s.done, s.now+e.oneWay+extra-j.at)
			}
		}
	}
	return s.done
}
