package channel_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
)

// pods is the model of pods: what the engine may expect of whoever implements
// channel.Pods. Its steps are those of a world.
type pods struct {
	w *world
	// hold are the pods, each with the UIDs of its steps.
	hold map[string][]string
	// trouble is asked before step k of a run in a pod, and after its answer;
	// nil: there is none.
	trouble func(pod string, k int, answered bool) trouble
	// runs are what was offered, as "pod:steps".
	runs []string
}

type trouble uint8

const (
	none     trouble = iota
	dies             // there is no answer
	busy             // no place
	tooLarge         // no room
)

var errDied = errors.New("connection reset")

func (p *pods) Run(ctx context.Context, r *channel.PodRun) channel.PodResult {
	pod, n := p.choose(r)
	if pod == "" {
		return channel.PodResult{}
	}
	p.w.mu.Lock()
	p.runs = append(p.runs, fmt.Sprint(pod, ":", n))
	p.w.mu.Unlock()
	return p.run(ctx, r, pod, n)
}

// choose is the pod that holds most of the steps, and how many.
func (p *pods) choose(r *channel.PodRun) (pod string, most int) {
	least := 2 // one step by itself gains nothing
	if r.Spilled != "" {
		least = 1
	}
	names := make([]string, 0, len(p.hold))
	for name := range p.hold {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		n := 0
		for n < r.Most && slices.Contains(p.hold[name], r.Chain.Steps[n].UID) {
			n++
		}
		if n >= least && n > most && name != r.Spilled {
			pod, most = name, n
		}
	}
	return pod, most
}

func (p *pods) run(ctx context.Context, r *channel.PodRun, pod string, n int) channel.PodResult {
	res := channel.PodResult{Pod: pod}
	start, e := time.Now(), r.Event
	ask := func(k int, answered bool) trouble {
		if p.trouble == nil {
			return none
		}
		return p.trouble(pod, k, answered)
	}
	lost := channel.PodResult{Outcome: channel.PodLost, Pod: pod, Err: errDied}
	spill := func(k int, why channel.SpillReason) channel.PodResult {
		res.Outcome, res.Ran, res.Reason = channel.PodSpilled, k, why
		if k > 0 {
			res.Event = e
		}
		return res
	}
	for k := range n {
		switch t := ask(k, false); {
		case ctx.Err() != nil || t == dies:
			return lost
		case t == busy && k == 0, t == tooLarge && k == 0:
			return channel.PodResult{}
		case t == busy:
			return spill(k, channel.Overloaded)
		case t == tooLarge:
			return spill(k, channel.TooLarge)
		case k > 0 && time.Since(start) >= r.Budget:
			return spill(k, channel.Checkpoint)
		}
		s, began := r.Chain.Steps[k], time.Now()
		got := p.w.Send(ctx, &egress.Request{Target: s.Subscriber, Event: e}, s.Policy.Format, s.Policy.Timeout)
		if ctx.Err() != nil || ask(k, true) == dies {
			return lost
		}
		res.Took = append(res.Took, time.Since(began))
		if got.Err != nil {
			res.Seen = got
			return spill(k, reasonOf(got))
		}
		res.Entered = e
		if e = got.Reply; e == nil {
			return channel.PodResult{Outcome: channel.PodCompleted, Pod: pod, Ran: k + 1, Took: res.Took}
		}
	}
	res.Outcome, res.Ran, res.Event = channel.PodCompleted, n, e
	if last := r.Chain.Steps[n-1]; last.DeadLetter == nil || last.Reply == nil || last.Reply.Channel != "" {
		res.Entered = nil
	}
	return res
}

func reasonOf(r egress.Result) channel.SpillReason {
	switch {
	case r.Status != 0:
		return channel.Failed
	case errors.Is(r.Err, context.DeadlineExceeded):
		return channel.TimedOut
	default:
		return channel.Refused
	}
}

// inOnePod gives a world a pod with the first n steps of its sequence.
func inOnePod(w *world, n int) *pods {
	p := &pods{w: w, hold: map[string][]string{}}
	for i := range n {
		p.hold["p0"] = append(p.hold["p0"], fmt.Sprint("u", i))
	}
	w.pods = p
	w.d.Close(w.t.Context())
	w.start()
	return p
}

func TestColocatedStepsRunInOneExchangeAndOneRecordIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := inOnePod(w, 4)
		defer w.stop()
		for i := range 4 {
			w.step(fmt.Sprintf("http://s%d", i), passOn(i))
		}
		w.apply(sequence(4, channel.Colocated, nil)...)
		w.publish("c0", ev("1"))
		synctest.Wait()
		last := w.called("http://s3")
		if len(last) != 1 || last[0].event.Type != "t>0>1>2" {
			t.Fatalf("last step saw %+v", last)
		}
		if got := fmt.Sprint(w.endings(), p.runs); got != "[completed] [p0:4]" {
			t.Errorf("%s, want one record and one run", got)
		}
		if got := w.travels(); got != "stored colocated colocated colocated" {
			t.Errorf("the event travelled %s", got)
		}
	})
}

func TestAMixedChainRunsLocallyThenRemotelyThenInAnotherPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := inOnePod(w, 2)
		p.hold["p1"] = []string{"u3", "u4"}
		defer w.stop()
		for i := range 5 {
			w.step(fmt.Sprintf("http://s%d", i), passOn(i))
		}
		w.apply(sequence(5, channel.Always, nil)...)
		w.publish("c0", ev("1"))
		synctest.Wait()
		if got := fmt.Sprint(w.endings(), p.runs); got != "[completed] [p0:2 p1:2]" {
			t.Errorf("%s", got)
		}
		if got := w.travels(); got != "stored colocated short-circuited short-circuited colocated" {
			t.Errorf("the event travelled %s", got)
		}
	})
}

func TestTheHopOutOfAPodIsStoredUnlessAllAreShortCircuited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := inOnePod(w, 2)
		p.hold["p1"] = []string{"u2", "u3"}
		defer w.stop()
		for i := range 4 {
			w.step(fmt.Sprintf("http://s%d", i), passOn(i))
		}
		w.apply(sequence(4, channel.Colocated, nil)...)
		w.publish("c0", ev("1"))
		synctest.Wait()
		if got := fmt.Sprint(w.endings(), p.runs); got != "[replied completed] [p0:2 p1:2]" {
			t.Errorf("%s", got)
		}
	})
}

func TestAnOrderedChannelAndAFanOutEndARun(t *testing.T) {
	for name, edit := range map[string]func(seq []*channel.Channel){
		"ordered": func(seq []*channel.Channel) { seq[1].Ordered = true },
		"never":   func(seq []*channel.Channel) { seq[1].ShortCircuit = channel.Never },
		"fan-out": func(seq []*channel.Channel) {
			seq[1].Subscriptions = append(seq[1].Subscriptions, &channel.Subscription{
				UID: "other", Namespace: "ns", Name: "other", Subscriber: &egress.Target{URL: "http://other"},
			})
		},
	} {
		bubble(t, name, func(t *testing.T) {
			w := newWorld(t)
			p := inOnePod(w, 3)
			defer w.stop()
			for i := range 3 {
				w.step(fmt.Sprintf("http://s%d", i), passOn(i))
			}
			w.step("http://other", accept)
			seq := sequence(3, channel.Colocated, nil)
			edit(seq)
			w.apply(seq...)
			w.publish("c0", ev("1"))
			synctest.Wait()
			if got := fmt.Sprint(p.runs); got != "[p0:2]" {
				t.Errorf("runs %s, want that of the last two steps", got)
			}
			if n := len(w.called("http://s2")); n != 1 {
				t.Errorf("the last step was called %d times", n)
			}
		})
	}
}

func TestABusyPodsEventIsHandedToAnotherPodAndNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := inOnePod(w, 3)
		p.hold["p1"] = []string{"u2"}
		p.trouble = func(pod string, k int, answered bool) trouble {
			if pod == "p0" && k == 2 {
				return busy
			}
			return none
		}
		defer w.stop()
		for i := range 3 {
			w.step(fmt.Sprintf("http://s%d", i), passOn(i))
		}
		w.apply(sequence(3, channel.Colocated, nil)...)
		w.publish("c0", ev("1"))
		synctest.Wait()
		if got := fmt.Sprint(w.endings(), p.runs); got != "[completed] [p0:3 p1:1]" {
			t.Errorf("%s", got)
		}
		if got := w.travels(); got != "stored colocated short-circuited" {
			t.Errorf("the event travelled %s", got)
		}
		delete(p.hold, "p1")
		w.publish("c0", ev("2"))
		synctest.Wait()
		// Nobody else has room: stored, and the step before is not run again.
		if got := fmt.Sprint(w.endings()); got != "[completed spilled completed]" {
			t.Errorf("records ended %s", got)
		}
		if a, b := len(w.called("http://s1")), len(w.called("http://s2")); a != 2 || b != 2 {
			t.Errorf("the steps were called %d and %d times, want twice each", a, b)
		}
	})
}

func TestWorkAtRiskInAPodIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		inOnePod(w, 4)
		defer w.stop()
		for i := range 4 {
			next := passOn(i)
			w.step(fmt.Sprintf("http://s%d", i), func(r *egress.Request) egress.Result {
				time.Sleep(600 * time.Millisecond)
				return next(r)
			})
		}
		w.apply(sequence(4, channel.Colocated, nil)...)
		w.publish("c0", ev("1"))
		time.Sleep(10 * time.Second)
		if got := fmt.Sprint(w.endings()); got != "[replied completed]" {
			t.Errorf("records ended %s", got)
		}
	})
}

func TestTheStepsOfAPodThatDiedRunAgainWithoutUsingUpAPolicy(t *testing.T) {
	for _, k := range []int{0, 1, 2} {
		for _, answered := range []bool{false, true} {
			bubble(t, fmt.Sprint(k, answered), func(t *testing.T) {
				w := newWorld(t)
				p := inOnePod(w, 3)
				died := false
				p.trouble = func(_ string, at int, after bool) trouble {
					if !died && at == k && after == answered {
						died = true
						return dies
					}
					return none
				}
				defer w.stop()
				for i := range 3 {
					w.step(fmt.Sprintf("http://s%d", i), passOn(i))
				}
				w.step("http://dls", accept)
				w.apply(sequence(3, channel.Colocated, func(_ int, s *channel.Subscription) {
					s.DeadLetter = &channel.Destination{Target: egress.Target{URL: "http://dls"}} // no retries
				})...)
				w.publish("c0", ev("1"))
				time.Sleep(time.Minute)
				if n := len(w.called("http://dls")); n != 0 {
					t.Errorf("%d dead letters", n)
				}
				if n := len(w.called("http://s2")); n < 1 || n > 2 {
					t.Errorf("the last step was called %d times", n)
				}
				for i := range 3 {
					if n := w.lag(fmt.Sprintf("c%d", i), fmt.Sprintf("u%d", i)); n != 0 {
						t.Errorf("channel %d: %d records left", i, n)
					}
				}
			})
		}
	}
}

// A dead letter that a pod did not bring along is made anew.
func TestADeadLetterOfAReplyThatWentMissingInAPodIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := inOnePod(w, 2)
		p.trouble = nil
		defer w.stop()
		w.step("http://s0", passOn(0))
		w.step("http://s1", reply(func(*event.Event) *event.Event {
			return &event.Event{SpecVersion: "1.0", ID: "big", Source: "s", Type: "t", Data: make([]byte, 2<<20)}
		}))
		w.step("http://dls", accept)
		seq := sequence(3, channel.Colocated, func(_ int, s *channel.Subscription) {
			s.DeadLetter = &channel.Destination{Target: egress.Target{URL: "http://dls"}}
		})
		w.apply(seq...)
		w.publish("c0", ev("1"))
		time.Sleep(time.Minute)
		dead := w.called("http://dls")
		if len(dead) != 1 || dead[0].event.Type != "t>0" || dead[0].event.Get("knativeerrorcode") != "413" {
			t.Errorf("dead letters %+v, want what entered step 1", dead)
		}
	})
}
