package colocate

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/colocate/balance"
	"github.com/sidestep-dev/sidestep/colocate/sidecar"
	"github.com/sidestep-dev/sidestep/colocate/wire"
)

func wantStory(t *testing.T, w *town, want string) {
	t.Helper()
	if got := w.story(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// wantStoryInAnyOrder is wantStory for events that were stored in between: what became
// of one before that, and after it, is told by two goroutines.
func wantStoryInAnyOrder(t *testing.T, w *town, want string) {
	t.Helper()
	parts := func(story string) string {
		hops, ends, _ := strings.Cut(story, ": ")
		h, e := strings.Split(hops, "; "), strings.Fields(ends)
		slices.Sort(h)
		slices.Sort(e)
		return strings.Join(h, "; ") + ": " + strings.Join(e, " ")
	}
	if got := w.story(); parts(got) != parts(want) {
		t.Errorf("got  %s\nwant %s, in any order", got, want)
	}
}

func TestAChainRunsInItsPodAndIsSettledOnce(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b", "c")
	w.pod("p", nil, w.steps...)
	w.apply("p")
	w.publish(ev("1"))
	w.settled()
	wantStory(t, w, "step a p stored 200; step b p colocated 200; step c p colocated 200: completed")
	if got := w.steps[2].calls()[0].Header.Get("ce-type"); got != "t>a>b" {
		t.Errorf("the last step got type %s", got)
	}
}

// What a step is sent does not tell how it was called (P8).
func TestStepsAreSentTheSameWithAndWithoutASidecar(t *testing.T) {
	t.Parallel()
	edits := map[string]func(w *town){
		"binary":     func(*town) {},
		"structured": func(w *town) { w.seq[1].Subscriptions[0].Policy.Format = egress.Structured },
		"with a password": func(w *town) {
			for _, c := range w.seq {
				target := c.Subscriptions[0].Subscriber
				target.URL = strings.Replace(target.URL, "://", "://user:secret@", 1)
			}
		},
	}
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain, pod := sentTo(t, edit, false), sentTo(t, edit, true)
			for i := range plain {
				if plain[i] != pod[i] {
					t.Errorf("plain  %s\nin pod %s", plain[i], pod[i])
				}
			}
		})
	}
}

// sentTo is what each of three steps was sent, in pods or not.
func sentTo(t *testing.T, edit func(*town), pods bool) (all []string) {
	w := newTown(t, "a", "b", "c")
	edit(w)
	var want []string
	if pods {
		w.pod("p", nil, w.steps...)
		want = append(want, "p")
	}
	w.apply(want...)
	w.publish(ev("1"))
	w.settled()
	if pods && !strings.Contains(w.story(), "step b p colocated 200") {
		t.Error("it did not run in the pod")
	}
	for _, s := range w.steps {
		r := s.calls()[0]
		var lines []string
		for name, values := range r.Header {
			lines = append(lines, fmt.Sprint(name, values))
		}
		slices.Sort(lines)
		host := strings.Replace(r.Host, fmt.Sprint(s.port), "PORT", 1)
		all = append(all, fmt.Sprint(s.name, r.Method, r.RequestURI, host, r.ContentLength, lines))
	}
	return all
}

// The golden test of the engine, with real sidecars and steps: attempts and dead
// letters are the same in all modes.
func TestAttemptsAndDeadLettersAreTheSameInAllModes(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 503, 302} {
		for k := range 3 {
			t.Run(fmt.Sprintf("%d at step %d", status, k), func(t *testing.T) {
				t.Parallel()
				transcript := func(mode channel.ShortCircuit, pods bool) string {
					w := newTown(t, "a", "b", "c")
					dls := newStep(t, "dls")
					w.steps[k].answer = func(int, *http.Request) int { return status }
					for i, c := range w.seq {
						c.ShortCircuit = mode
						c.Subscriptions[0].Policy.Retry = 1 + i
						c.Subscriptions[0].Policy.Delay = time.Millisecond
						c.Subscriptions[0].DeadLetter = &channel.Destination{Target: egress.Target{URL: dls.URL}}
					}
					var want []string
					if pods {
						w.pod("p", nil, w.steps...)
						want = append(want, "p")
					}
					w.apply(want...)
					w.publish(ev("1"))
					w.settled()
					out := ""
					for _, s := range append(w.steps, dls) {
						for _, r := range s.calls() {
							dest := strings.Replace(r.Header.Get("ce-knativeerrordest"), fmt.Sprint(w.steps[k].port), "PORT", 1)
							out += fmt.Sprintln(s.name, r.Header.Get("ce-type"), r.Header.Get("ce-id"), dest,
								r.Header.Get("ce-knativeerrorcode"), r.Header.Get("ce-knativeerrordata"))
						}
					}
					return out
				}
				never := transcript(channel.Never, false)
				if !strings.Contains(never, "dls") {
					t.Fatalf("no dead letter:\n%s", never)
				}
				for _, mode := range []channel.ShortCircuit{channel.Always, channel.Colocated} {
					if got := transcript(mode, true); got != never {
						t.Errorf("Never:\n%s\nmode %d:\n%s", never, mode, got)
					}
				}
			})
		}
	}
}

func TestADeadLetterOfAReplyIsWhatEnteredTheLastStep(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	outside, dls := newStep(t, "outside"), newStep(t, "dls")
	outside.answer = func(int, *http.Request) int { return 400 }
	last := w.seq[1].Subscriptions[0]
	last.Reply = &channel.Destination{Target: egress.Target{URL: outside.URL}}
	last.DeadLetter = &channel.Destination{Target: egress.Target{URL: dls.URL}}
	w.pod("p", nil, w.steps...)
	w.apply("p")
	w.publish(ev("1"))
	w.settled()
	wantStory(t, w, "step a p stored 200; step b p colocated 200; reply b plain colocated 400; dead-letter b plain colocated 200: dead-lettered")
	if got := dls.calls()[0].Header.Get("ce-type"); got != "t>a" {
		t.Errorf("the dead letter has type %s", got)
	}
}

func TestABusyPodsChainGoesOnInAnotherPod(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	// Both pods have a step b of their own; that of p is full.
	other := newStep(t, "b")
	enough := make(chan struct{})
	w.steps[1].answer = func(int, *http.Request) int { <-enough; return 0 }
	defer close(enough)
	w.pod("p", func(c *sidecar.Config) { c.MaxInFlight = 1; c.MaxWait = time.Millisecond }, w.steps...)
	w.pod("q", nil, other)
	w.apply("p", "q")
	w.publish(ev("1")) // takes the place, and keeps it
	w.eventually("step b runs", func() bool { return len(w.steps[1].calls()) == 1 })
	w.publish(ev("2"))
	w.eventually("the other pod has run it", func() bool { return len(other.calls()) == 1 })
	if r := other.calls()[0]; r.Header.Get("ce-id") != "2" || r.Header.Get("ce-type") != "t>a" {
		t.Errorf("the other pod got %v", r.Header)
	}
	w.eventually("it is settled", func() bool { return len(w.lines()) > 0 })
	if n := len(w.steps[0].calls()); n != 2 {
		t.Errorf("the step before was called %d times, want once for each event", n)
	}
}

// A pod that gives an event back while the others are busy, too, has it wait in one of
// them. To store it would put it behind all that is in the store, or past those that
// wait in the pods.
func TestAChainThatABusyPodGaveBackWaitsInAnotherBusyPod(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	a, b := newStep(t, "a"), newStep(t, "b")
	never, soon := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(soon) })
	defer release()
	w.steps[1].answer = func(int, *http.Request) int { <-never; return 0 }
	defer close(never)
	b.answer = func(int, *http.Request) int { <-soon; return 0 }
	w.pod("p", func(c *sidecar.Config) { c.MaxInFlight = 1; c.MaxWait = time.Millisecond }, w.steps...)
	q := w.pod("q", func(c *sidecar.Config) { c.MaxInFlight = 1 }, a, b)
	// All chains of ours begin in p; those of another dispatcher in q.
	w.m.Pods[0].Weight = 1000
	if err := w.pods.SetPolicy(balance.Weighted); err != nil {
		t.Fatal(err)
	}
	w.apply("p", "q")
	others := newTown(t, "a", "b")
	others.m = Map{Services: w.m.Services, Pods: w.m.Pods[1:]}
	for i, c := range others.seq {
		c.Subscriptions[0].Subscriber = w.seq[i].Subscriptions[0].Subscriber
	}
	others.apply("q")
	others.publish(ev("other"))
	w.publish(ev("1"))
	w.eventually("both pods are full", func() bool { return len(w.steps[1].calls()) == 1 && len(b.calls()) == 1 })
	w.publish(ev("2"))
	w.eventually("it waits in the other pod", func() bool { return loadOf(t, greeted(t, q), b).Queue == 1 })
	release()
	w.eventually("it has run there", func() bool { return len(w.lines()) == 1 })
	if got := w.story(); !strings.Contains(got, "step b q short-circuited 200 after overload: completed") || strings.Contains(got, "spill") {
		t.Errorf("what happened: %s", got)
	}
}

func (w *town) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.ends)
}

func TestAPodThatIsFullAtTheDoorCostsNoAttempt(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	a, b := newStep(t, "a"), newStep(t, "b")
	full := func(c *sidecar.Config) { c.MaxInFlight = 1; c.MaxChains = 1 }
	enough := make(chan struct{})
	w.steps[0].answer = func(int, *http.Request) int { <-enough; return 0 }
	w.pod("p", full, w.steps...)
	w.pod("q", nil, a, b)
	for _, c := range w.seq {
		c.Subscriptions[0].Policy.Retry = 0 // an attempt too many would drop the event
	}
	w.apply("p", "q")
	const n = 20
	for i := range n {
		w.publish(ev(fmt.Sprint(i)))
	}
	w.eventually("all but one have passed", func() bool { return len(b.calls()) >= n-1 })
	close(enough)
	w.settled()
	if got := len(b.calls()) + len(w.steps[1].calls()); got != n {
		t.Errorf("the last step was called %d times, want %d", got, n)
	}
}

func TestASidecarThatDiesInMidChainLosesNothing(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b", "c")
	var died atomic.Bool
	var p *localPod
	w.steps[1].answer = func(int, *http.Request) int {
		if died.CompareAndSwap(false, true) {
			gone, cancel := context.WithCancel(context.Background())
			cancel()
			go p.stop(gone)
			time.Sleep(50 * time.Millisecond) // while the connection is cut
		}
		return 0
	}
	p = w.pod("p", nil, w.steps...)
	w.apply("p")
	w.publish(ev("1"))
	w.settled()
	if n := len(w.steps[2].calls()); n < 1 || n > 2 {
		t.Errorf("the last step was called %d times", n)
	}
	w.eventually("the pod is not used", func() bool { return len(w.usable()) == 0 })
	w.publish(ev("2"))
	w.settled()
	w.story()
}

// impostor answers in a sidecar's place.
type impostor struct {
	shake  atomic.Pointer[wire.Handshake]
	answer http.HandlerFunc
}

func (i *impostor) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path == wire.HandshakePath {
		if h := i.shake.Load(); h != nil {
			json.NewEncoder(rw).Encode(h) //nolint:errcheck // see the result
			return
		}
		http.Error(rw, "no", http.StatusForbidden)
		return
	}
	i.answer(rw, r)
}

func TestAnAnswerThatIsNoSidecarsIsNeverTakenForCompleted(t *testing.T) {
	t.Parallel()
	answers := map[string]http.HandlerFunc{
		"a proxy's 200": func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(200) },
		"an event": func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("ce-specversion", "1.0")
			rw.Header().Set("ce-id", "x")
			rw.Header().Set("ce-source", "x")
			rw.Header().Set("ce-type", "x")
		},
		"503 of a mesh":   func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(503) },
		"another version": func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set(wire.OutcomeHeader, "9;completed") },
		"too few steps":   func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set(wire.OutcomeHeader, "1;completed") },
		"no event after it": func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set(wire.OutcomeHeader, "1;completed;event;ran=0+1,0+1")
		},
		"cut": func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set(wire.OutcomeHeader, "1;completed;ran=0+1,0+1")
			rw.Header().Set("Content-Length", "10")
			rw.Write([]byte("half")) //nolint:errcheck // see the result
		},
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTown(t, "a", "b")
			i := &impostor{answer: answer}
			server := httptest.NewServer(i)
			t.Cleanup(server.Close)
			h := &wire.Handshake{Pod: "p", MinVersion: 1, Version: 1, Inline: 1 << 20}
			ports := map[string]uint16{}
			for _, s := range w.steps {
				h.Ports = append(h.Ports, s.port)
				ports["ns/"+s.name] = s.port
			}
			i.shake.Store(h)
			w.m.Pods = []Pod{{ID: "p", Namespace: "ns", Sidecar: server.URL, Ports: ports}}
			w.apply("p")
			i.shake.Store(nil)
			w.publish(ev("1"))
			w.settled()
			if n := len(w.steps[1].calls()); n != 1 {
				t.Errorf("the last step was called %d times, want once", n)
			}
			if len(w.usable()) != 0 {
				t.Error("the pod is still used")
			}
		})
	}
}

func TestAPodThatCannotBeUsedIsPassedBy(t *testing.T) {
	t.Parallel()
	edits := map[string]func(w *town){
		"another pod's sidecar": func(w *town) { w.m.Pods[0].UID = "other" },
		"another namespace":     func(w *town) { w.m.Pods[0].Namespace = "other" },
		"a port not allowed":    func(w *town) { w.m.Pods[0].Ports["ns/a"]++ },
		"nobody there":          func(w *town) { w.m.Pods[0].Sidecar = "http://127.0.0.1:1" },
	}
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTown(t, "a", "b")
			w.pod("p", nil, w.steps...)
			edit(w)
			w.apply()
			w.publish(ev("1"))
			w.settled()
			wantStoryInAnyOrder(t, w, "step a plain stored 200; reply a plain stored 202; step b plain stored 200: replied completed")
		})
	}
}

func TestAnUntrustedDispatchersChainIsDeliveredPlainly(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	p := w.pod("p", nil, w.steps...)
	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Trust([]ed25519.PublicKey{other}); err != nil {
		t.Fatal(err)
	}
	w.apply("p")
	w.publish(ev("1"))
	w.settled()
	wantStoryInAnyOrder(t, w, "step a plain stored 200; reply a plain stored 202; step b plain stored 200: replied completed")
}

// TestTheKeyIsChangedWhileItRuns: the slips of before, which are kept, are no longer
// sent.
func TestTheKeyIsChangedWhileItRuns(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	p := w.pod("p", nil, w.steps...)
	w.apply("p")
	w.publish(ev("1"))
	w.settled()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Trust([]ed25519.PublicKey{public}); err != nil {
		t.Fatal(err)
	}
	if err := w.pods.SetKey(private); err != nil {
		t.Fatal(err)
	}
	w.publish(ev("2"))
	w.settled()
	wantStory(t, w, "step a p stored 200; step b p colocated 200; step a p stored 200; step b p colocated 200: completed completed")
	if w.pods.SetKey(private[:8]) == nil {
		t.Error("half a key is taken")
	}
}

func TestStepsOfTwoPodsMakeTwoRuns(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b", "c", "d", "e")
	w.pod("p", nil, w.steps[0], w.steps[1])
	w.pod("q", nil, w.steps[3], w.steps[4])
	for _, c := range w.seq {
		c.ShortCircuit = channel.Always
	}
	w.apply("p", "q")
	w.publish(ev("1"))
	w.settled()
	wantStory(t, w, "step a p stored 200; step b p colocated 200; step c plain short-circuited 200; "+
		"step d q short-circuited 200; step e q colocated 200: completed")
}

func TestThePodThatHoldsMostStepsIsPreferred(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b", "c")
	a, b := newStep(t, "a"), newStep(t, "b")
	w.pod("short", nil, a, b)
	w.pod("whole", nil, w.steps...)
	w.apply("short", "whole")
	for i := range 10 {
		w.publish(ev(fmt.Sprint(i)))
	}
	w.settled()
	if n := len(a.calls()); n != 0 {
		t.Errorf("%d chains began in the pod that holds fewer steps", n)
	}
	if n := len(w.steps[2].calls()); n != 10 {
		t.Errorf("the last step was called %d times", n)
	}
}

func TestPoliciesAreSwitchedWhileRunning(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	a, b := newStep(t, "a"), newStep(t, "b")
	w.pod("p", nil, w.steps...)
	w.pod("q", nil, a, b)
	w.apply("p", "q")
	if err := w.pods.SetPolicy(balance.RoundRobin); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		w.publish(ev(fmt.Sprint(i)))
		w.settled()
	}
	if x, y := len(w.steps[0].calls()), len(a.calls()); x != 5 || y != 5 {
		t.Errorf("round robin made %d and %d", x, y)
	}
	if err := w.pods.SetPolicy(balance.Maglev); err != nil {
		t.Fatal(err)
	}
	before := len(a.calls())
	for i := range 10 {
		e := ev(fmt.Sprint(i))
		e.Attributes[0].Name, e.Attributes[0].Value = "partitionkey", "one"
		w.publish(e)
		w.settled()
	}
	if n := len(a.calls()) - before; n != 0 && n != 10 {
		t.Errorf("of the 10 events of a key, %d went to one pod", n)
	}
	if err := w.pods.SetPolicy(9); err == nil {
		t.Error("an unknown policy was taken")
	}
}

func TestAMapIsReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	w.pod("p", nil, w.steps...)
	w.apply("p")
	with, without := w.m, Map{Services: w.m.Services}
	const n = 200
	for i := range n {
		w.publish(ev(fmt.Sprint(i)))
		m := &with
		if i%3 == 0 {
			m = &without
		}
		if err := w.pods.SetMap(m); err != nil {
			t.Fatal(err)
		}
	}
	w.settled()
	if got := len(w.steps[1].calls()); got != n {
		t.Errorf("the last step was called %d times, want %d", got, n)
	}
}
