package balance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newBalancer(t *testing.T, c Config) (*Balancer, *clock) {
	t.Helper()
	k := &clock{t: time.Unix(0, 0)}
	r := rand.New(rand.NewPCG(1, 1))
	var mu sync.Mutex
	c.Now, c.Rand = k.now, func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Uint64()
	}
	b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return b, k
}

func replicas(n int) (rs []Replica) {
	for i := range n {
		rs = append(rs, Replica{ID: fmt.Sprint("pod-", i)})
	}
	return rs
}

// pick picks n times, each chain ending at once, and counts.
func pick(t *testing.T, s *Set, n int, key func(i int) string, exclude ...string) map[string]int {
	t.Helper()
	got := map[string]int{}
	for i := range n {
		c, ok := s.Pick(key(i), exclude...)
		if !ok {
			t.Fatalf("pick %d found nobody", i)
		}
		got[c.Replica()]++
		c.Done(Outcome{Result: Succeeded})
	}
	return got
}

func noKey(int) string { return "" }

func TestRoundRobinTakesTurns(t *testing.T) {
	t.Parallel()
	b, _ := newBalancer(t, Config{Policy: RoundRobin})
	s := b.NewSet(replicas(3)...)
	defer s.Close()
	for id, n := range pick(t, s, 300, noKey) {
		if n != 100 {
			t.Errorf("%s got %d", id, n)
		}
	}
}

func TestWeightedSharesByWeight(t *testing.T) {
	t.Parallel()
	b, _ := newBalancer(t, Config{Policy: Weighted})
	s := b.NewSet(Replica{ID: "a", Weight: 5}, Replica{ID: "b", Weight: 3}, Replica{ID: "c"})
	defer s.Close()
	got := pick(t, s, 900, noKey)
	if got["a"] != 500 || got["b"] != 300 || got["c"] != 100 {
		t.Errorf("got %v, want 5:3:1", got)
	}
	// Smoothly: nobody has more than two turns in a row.
	row, last := 0, ""
	for range 90 {
		c, _ := s.Pick("")
		if c.Replica() != last {
			row, last = 0, c.Replica()
		}
		if row++; row > 2 {
			t.Fatalf("%s had %d turns in a row", last, row)
		}
		c.Done(Outcome{})
	}
}

func TestLeastRequestAvoidsTheBusyOne(t *testing.T) {
	t.Parallel()
	b, _ := newBalancer(t, Config{})
	s := b.NewSet(replicas(4)...)
	defer s.Close()
	var held []Choice
	for range 400 { // none ends
		c, ok := s.Pick("")
		if !ok {
			t.Fatal("nobody")
		}
		held = append(held, c)
	}
	count := map[string]int{}
	for _, c := range held {
		count[c.Replica()]++
		c.Done(Outcome{})
	}
	for id, n := range count {
		if n < 95 || n > 105 {
			t.Errorf("%s holds %d of 400 chains", id, n)
		}
	}
}

func TestLeastRequestHeedsWhatAPodReportsOfOthers(t *testing.T) {
	t.Parallel()
	b, k := newBalancer(t, Config{})
	s := b.NewSet(replicas(2)...)
	defer s.Close()
	c, _ := s.Pick("", "pod-1")
	k.pass(10 * time.Millisecond)
	c.Done(Outcome{Result: Succeeded, Report: &Report{Steps: []Load{{Step: "1", InFlight: 8, Queue: 2, Limit: 8}}}})
	got := pick(t, s, 20, noKey)
	if got["pod-0"] != 0 {
		t.Errorf("a pod that is busy with others' chains got %d of 20", got["pod-0"])
	}
	k.pass(time.Hour) // by then the report says nothing
	if got := pick(t, s, 200, noKey); got["pod-0"] < 50 {
		t.Errorf("long after it was busy the pod got %d of 200", got["pod-0"])
	}
}

func TestMaglevKeepsKeysTogetherAndMovesFewWhenAReplicaLeaves(t *testing.T) {
	t.Parallel()
	b, _ := newBalancer(t, Config{Policy: Maglev})
	s := b.NewSet(replicas(10)...)
	defer s.Close()
	where := func() map[string]string {
		m := map[string]string{}
		for i := range 2000 {
			key := fmt.Sprint("key-", i)
			c, ok := s.Pick(key)
			if !ok {
				t.Fatal("nobody")
			}
			m[key] = c.Replica()
			c.Done(Outcome{})
		}
		return m
	}
	before := where()
	share := map[string]int{}
	for _, id := range before {
		share[id]++
	}
	for id, n := range share {
		if math.Abs(float64(n)-200) > 60 {
			t.Errorf("%s has %d of 2000 keys", id, n)
		}
	}
	again := where()
	s.Update(replicas(9)) // pod-9 leaves
	after, moved := where(), 0
	for key, id := range before {
		if again[key] != id {
			t.Fatalf("key %s moved though nothing changed", key)
		}
		if id != "pod-9" && after[key] != id {
			moved++
		}
	}
	if moved > 100 {
		t.Errorf("%d keys of replicas that stayed have moved", moved)
	}
}

func TestAReplicaThatFailsIsLeftOutAndComesBackOnProbation(t *testing.T) {
	t.Parallel()
	var ejected []string
	b, k := newBalancer(t, Config{Policy: RoundRobin, Ejected: func(id string, d time.Duration) {
		ejected = append(ejected, fmt.Sprint(id, " ", d))
	}})
	s := b.NewSet(replicas(3)...)
	defer s.Close()
	fail := func() {
		c, ok := s.Pick("", "pod-1", "pod-2")
		if !ok {
			return
		}
		c.Done(Outcome{Result: Failed})
	}
	for range 5 {
		fail()
	}
	if got := pick(t, s, 30, noKey); got["pod-0"] != 0 {
		t.Errorf("a replica that failed five times got %d", got["pod-0"])
	}
	k.pass(31 * time.Second)
	fail()
	k.pass(31 * time.Second)
	if got := pick(t, s, 30, noKey); got["pod-0"] != 0 {
		t.Errorf("it failed on probation, and got %d", got["pod-0"])
	}
	if got := fmt.Sprint(ejected); got != "[pod-0 30s pod-0 1m0s]" {
		t.Errorf("ejections %s", got)
	}
	k.pass(time.Minute)
	if got := pick(t, s, 30, noKey); got["pod-0"] != 10 {
		t.Errorf("after its time it got %d of 30", got["pod-0"])
	}
}

func TestTheLastReplicasAreNeverLeftOut(t *testing.T) {
	t.Parallel()
	b, _ := newBalancer(t, Config{})
	s := b.NewSet(replicas(2)...)
	defer s.Close()
	for range 100 {
		c, ok := s.Pick("")
		if !ok {
			t.Fatal("everybody is left out")
		}
		c.Done(Outcome{Result: Failed})
	}
}

func TestASaturatedReplicaIsLeftOutForAsLongAsItAsked(t *testing.T) {
	t.Parallel()
	b, k := newBalancer(t, Config{})
	s := b.NewSet(replicas(2)...)
	defer s.Close()
	for _, other := range []string{"pod-1", "pod-0"} {
		c, ok := s.Pick("", other)
		if !ok {
			t.Fatal("nobody")
		}
		c.Done(Outcome{Result: Saturated, RetryAfter: 500 * time.Millisecond})
	}
	if _, ok := s.Pick(""); ok {
		t.Error("a saturated replica was picked")
	}
	if d := s.NextFree(); d != 500*time.Millisecond {
		t.Errorf("the next is free in %v", d)
	}
	k.pass(501 * time.Millisecond)
	pick(t, s, 10, noKey)
	if d := s.NextFree(); d > 0 {
		t.Errorf("somebody is still left out for %v", d)
	}
}

func TestTheOwnZoneIsPreferredWhileItHasRoom(t *testing.T) {
	t.Parallel()
	b, k := newBalancer(t, Config{Zone: "z"})
	s := b.NewSet(Replica{ID: "far", Zone: "y"}, Replica{ID: "near", Zone: "z"})
	defer s.Close()
	if got := pick(t, s, 50, noKey); got["near"] != 50 {
		t.Errorf("got %v", got)
	}
	c, _ := s.Pick("", "far")
	k.pass(time.Millisecond)
	c.Done(Outcome{Result: Succeeded, Report: &Report{Steps: []Load{
		{Step: "1", InFlight: 1, Queue: 100, Limit: 1, ServiceTime: time.Second},
	}}})
	if got := pick(t, s, 5, noKey); got["far"] == 0 {
		t.Errorf("the zone's replica has a queue of 100 s, and got %v", got)
	}
}

func TestAnEventIsHandedToWhoHasTheStepSoonest(t *testing.T) {
	t.Parallel()
	b, k := newBalancer(t, Config{})
	names := map[string]string{"resize": "9101"}
	s := b.NewSet(Replica{ID: "a", Steps: names}, Replica{ID: "b", Steps: map[string]string{"resize": "9201"}}, Replica{ID: "c", Steps: names})
	defer s.Close()
	report := func(id, step string, queue int, others ...string) {
		c, ok := s.Pick("", others...)
		if !ok || c.Replica() != id {
			t.Fatalf("picked %v, want %s", c, id)
		}
		k.pass(time.Millisecond)
		c.Done(Outcome{Result: Succeeded, Report: &Report{Steps: []Load{
			{Step: step, InFlight: 4, Queue: queue, Limit: 4, ServiceTime: 100 * time.Millisecond},
		}}})
	}
	report("a", "9101", 50, "b", "c")
	report("b", "9201", 10, "a", "c")
	report("c", "9101", 30, "a", "b")
	c, ok := s.HandOff("resize", 1000, "a")
	if !ok || c.Replica() != "b" {
		t.Fatalf("handed to %v", c)
	}
	c.Done(Outcome{})
	const limit = time.Second
	if d := s.SpillAfter("a", "resize", 1000, limit); d != 0 {
		t.Errorf("in the busiest pod an event waits for %v", d)
	}
	if d := s.SpillAfter("b", "resize", 1000, limit); d != limit {
		t.Errorf("in the least busy pod an event is given back after %v", d)
	}
	// At 100 MB/s the way takes 40 ms for this one, of 1 s that is won.
	if d := s.SpillAfter("a", "resize", 2e6, limit); d != 0 {
		t.Errorf("an event of 2 MB waits for %v", d)
	}
	// And 0.4 s for this one, which would win 0.6 s, after as long.
	if d := s.SpillAfter("a", "resize", 20e6, limit); d != limit {
		t.Errorf("an event of 20 MB is given back after %v", d)
	}
	// Not if the way there takes longer than the wait.
	if d := s.SpillAfter("a", "resize", 1<<30, limit); d != limit {
		t.Errorf("an event of 1 GiB is given back after %v", d)
	}
	if _, ok := s.HandOff("resize", 1000, "a", "b", "c"); ok {
		t.Error("handed to one that was excluded")
	}
}

func TestSetsChangeWhileTheyAreUsed(t *testing.T) {
	t.Parallel()
	b, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := b.NewSet(replicas(3)...)
	var wg sync.WaitGroup
	for p := range Policy(4) {
		wg.Go(func() {
			for i := range 2000 {
				if c, ok := s.Pick(fmt.Sprint(i)); ok {
					c.Done(Outcome{Result: Result(i % 4), Report: &Report{Steps: []Load{{Step: "1", InFlight: i % 7, Limit: 4}}}})
				}
				s.SpillAfter("pod-1", "1", 10, time.Second)
				if i%100 == 0 {
					s.Update(replicas(1 + i/100%5))
					if err := b.SetPolicy(p); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	s.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pods) != 0 {
		t.Errorf("%d pods are still known", len(b.pods))
	}
}

func TestConfigThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{
		{Policy: 4},
		{MaxRetryAfter: -1},
		{RoundTrip: -1},
		{BytesPerSecond: math.NaN()},
		{BytesPerSecond: -1},
		{Outlier: Outlier{Interval: -1}},
		{Outlier: Outlier{MinRequests: -1}},
		{Outlier: Outlier{Deviations: math.NaN()}},
		{Outlier: Outlier{MaxShare: 2}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	for p := range Policy(4) {
		if got, err := ParsePolicy(p.String()); err != nil || got != p {
			t.Errorf("policy %v: %v, %v", p, got, err)
		}
	}
	if _, err := ParsePolicy("random"); err == nil {
		t.Error("an unknown policy was taken")
	}
}

// What a report does not speak of is idle, whatever the one before it said.
func TestAStepThatIsNotReportedIsIdle(t *testing.T) {
	b, _ := newBalancer(t, Config{})
	s := b.NewSet()
	defer s.Close()
	s.Update(replicas(1))
	report := func(steps ...Load) {
		c, _ := s.Pick("")
		c.Done(Outcome{Result: Succeeded, Report: &Report{Steps: steps}})
	}
	report(Load{Step: "a", Limit: 1, InFlight: 1, Queue: 10, ServiceTime: time.Second}, Load{Step: "b", Limit: 1})
	p := s.state.Load().all.find("pod-0").pod
	if p.wait("a", b.now()) == 0 {
		t.Error("there is no wait behind a queue of ten")
	}
	report(Load{Step: "b", Limit: 1})
	if w := p.wait("a", b.now()); w != 0 {
		t.Errorf("the wait is %v after a report without the step", w)
	}
}
