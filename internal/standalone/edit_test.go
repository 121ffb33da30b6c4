package standalone

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// applied waits until so many edits were applied.
func (r *running) applied(n int) {
	r.t.Helper()
	eventually(r.t, "the edit to be applied", func() bool {
		return r.metric(`sidestep_reloads_total{result="applied"} ` + strconv.Itoa(n))
	})
}

func TestStepsAreAddedChangedAndRemovedWhileItRuns(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b, c := s.step("a"), s.step("b"), s.step("c")
	const path = "/default/seq-kn-sequence-0"
	s.write("a.yaml", sequenceYAML("seq", "Always", a))
	r := s.start()
	r.accept(path, "1")
	s.wantDelivered("a", "1")

	s.write("a.yaml", sequenceYAML("seq", "Always", a, b))
	r.applied(1)
	r.accept(path, "2")
	s.wantDelivered("b", "2")

	s.write("a.yaml", sequenceYAML("seq", "Always", a, c))
	r.applied(2)
	r.accept(path, "3")
	s.wantDelivered("c", "3")

	s.write("a.yaml", sequenceYAML("seq", "Always", a))
	r.applied(3)
	r.accept(path, "4")
	s.wantDelivered("a", "4")
	eventually(t, "the channel of the step to be removed", func() bool {
		return r.logs.find("removed what=channel default/seq-kn-sequence-1") != ""
	})

	s.write("b.yaml", sequenceYAML("two", "Never", b))
	r.applied(4)
	r.accept("/default/two-kn-sequence-0", "5")
	s.wantDelivered("b", "5")

	for step, want := range map[string]string{"a": "1234", "b": "25", "c": "3"} {
		got := s.got(step)
		for _, id := range want {
			if got[string(id)] != 1 {
				t.Errorf("step %s got event %c %d times, want once", step, id, got[string(id)])
			}
		}
		if len(got) != len(want) {
			t.Errorf("step %s got %v, want %s", step, got, want)
		}
	}
	want := "sequence default/seq  " + r.base + path + "\nsequence default/two  " + r.base + "/default/two-kn-sequence-0\n"
	eventually(t, "the address that is new", func() bool { return r.stdout.String() == want })
}

// The events are in the channel of a step that waits; then its Sequence goes.
func TestRemovedSequenceLosesNoStoredEvent(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"Always", "Never"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.write("a.yaml", sequenceYAML("seq", mode, s.step("a"), s.step("b"), s.step("c")))
			s.write("other.yaml", channelYAML)
			release := s.stall("a")
			r := s.start()
			const n = 300 // more than are in flight at a time
			var ids []string
			for i := range n {
				ids = append(ids, strconv.Itoa(i))
			}
			r.accept("/default/seq-kn-sequence-0", ids...)
			if err := os.Remove(filepath.Join(s.dir, "a.yaml")); err != nil {
				t.Fatal(err)
			}
			r.applied(1)
			if got := r.post("/default/seq-kn-sequence-0", "late"); got != http.StatusNotFound {
				t.Errorf("a channel that was removed answered %d, want 404", got)
			}
			release()
			s.wantDelivered("c", ids...)
			for i := range 3 {
				what := "removed what=channel default/seq-kn-sequence-" + strconv.Itoa(i)
				eventually(t, what, func() bool { return r.logs.find(what) != "" })
			}
			if !r.metric("sidestep_records_discarded_total 0") {
				t.Error("something was discarded")
			}
			if got := s.got("a")["late"]; got != 0 {
				t.Error("an event that was refused was delivered")
			}
		})
	}
}

// The file was removed while nobody watched.
func TestSequenceRemovedBetweenTwoRunsIsDrainedByTheSecond(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("a.yaml", sequenceYAML("seq", "Never", s.step("a"), s.step("b")))
	s.write("other.yaml", channelYAML)
	release := s.stall("a")
	r := s.start(func(c *Config) { c.Drain = 0 })
	r.accept("/default/seq-kn-sequence-0", "1", "2")
	r.stop()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	release()
	r = s.start()
	s.wantDelivered("b", "1", "2")
	eventually(t, "the channels to be removed", func() bool {
		return r.logs.find("removed what=channel default/seq-kn-sequence-1") != ""
	})
}

func TestBrokenEditKeepsTheTableAndSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.step("a")
	good := sequenceYAML("seq", "Never", a)
	s.write("a.yaml", good)
	r := s.start()
	s.write("a.yaml", strings.Replace(good, "shortCircuit: Never", "shortCircuit: Sometimes", 1))
	eventually(t, "the edit to be refused", func() bool { return r.metric(`sidestep_reloads_total{result="failed"} 1`) })
	line := r.logs.find("not applied")
	for _, want := range []string{"a.yaml:8", "spec.channelTemplate.spec.shortCircuit", "Sometimes", "ERROR"} {
		if !strings.Contains(line, want) {
			t.Errorf("the log does not say %q: %s", want, line)
		}
	}
	r.accept("/default/seq-kn-sequence-0", "1")
	s.wantDelivered("a", "1")
	if got, _ := r.get("/readyz"); got != http.StatusOK {
		t.Errorf("/readyz says %d", got)
	}

	s.write("a.yaml", sequenceYAML("seq", "Never", a, s.step("b")))
	r.applied(1)
	r.accept("/default/seq-kn-sequence-0", "2")
	s.wantDelivered("b", "2")
}

// As soon as an address is printed, and at whatever moment before.
func TestEditMadeAtTheStartIsSeen(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.step("a"), s.step("b")
	s.write("a.yaml", sequenceYAML("seq", "Never", a))
	r := s.start(func(c *Config) {
		c.Stdout.(*output).first = func() { s.write("a.yaml", sequenceYAML("seq", "Never", a, b)) }
	})
	r.applied(1)
	r.accept("/default/seq-kn-sequence-0", "1")
	s.wantDelivered("b", "1")
}

// Somebody else writes into the folder all the time.
func TestOtherFilesInTheFolderDoNotHoldUpAnEdit(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.step("a"), s.step("b")
	s.write("a.yaml", sequenceYAML("seq", "Never", a))
	r := s.start()
	done := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = os.WriteFile(filepath.Join(s.dir, "busy.log"), []byte("line\n"), 0o600)
			}
		}
	}()
	defer func() { close(stop); <-done }()
	s.write("a.yaml", sequenceYAML("seq", "Never", a, b))
	r.applied(1)
}

func TestWatcherKnowsWhichFilesConcernIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	single := filepath.Join(t.TempDir(), "flow.yaml")
	if err := os.WriteFile(single, []byte(channelYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := openWatcher([]string{dir + "/", single})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	for name, want := range map[string]bool{
		filepath.Join(dir, "a.yaml"):      true,
		filepath.Join(dir, "a.yml"):       true,
		filepath.Join(dir, "a.json"):      true,
		filepath.Join(dir, "..data"):      true, // a mounted ConfigMap was changed
		dir:                               true,
		single:                            true,
		filepath.Join(dir, "a.log"):       false,
		filepath.Join(dir, ".a.yaml.swp"): false,
		filepath.Join(dir, ".a.yaml"):     false,
		filepath.Join(dir, "a.yaml~"):     false,
		filepath.Join(filepath.Dir(single), "another.yaml"): false,
	} {
		if got := w.concerns(name); got != want {
			t.Errorf("%s concerns it: %v, want %v", name, got, want)
		}
	}
}

func TestLimitsAreChangedWhileItRuns(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	files := func(settings string) {
		s.write("a.yaml", sequenceYAML("seq", "Always", s.step("a"))+`
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config-sidestep}
data:
`+settings)
	}
	files("  dispatch: 'byteBudget: 32Mi'\n")
	r := s.start()
	post := func(id string, bytes, want int) {
		t.Helper()
		if got, err := r.sendData("/default/seq-kn-sequence-0", id, strings.Repeat("x", bytes)); err != nil || got != want {
			t.Errorf("%d bytes: status %d, %v; want %d", bytes, got, err, want)
		}
	}
	post("1", 2000, http.StatusAccepted)
	files("  dispatch: 'byteBudget: 64Mi'\n  claim-check: '{threshold: 500, maxEventBytes: 1000}'\n")
	r.applied(1)
	post("2", 2000, http.StatusRequestEntityTooLarge)
	post("3", 800, http.StatusAccepted)
	if !r.metric("sidestep_budget_bytes 6.7108864e+07") || !r.metric(`sidestep_claims_total{what="stored"} 1`) {
		_, metrics := r.get("/metrics")
		t.Errorf("want a budget of 64 MiB, and one payload in the store:\n%s\n%s", seriesOf(metrics, "sidestep_budget"), seriesOf(metrics, "sidestep_claims"))
	}
	if got := r.logs.find("with a restart"); got != "" {
		t.Errorf("it wants to be restarted: %s", got)
	}
	files("  dispatch: 'maxInFlight: 3'\n")
	r.applied(2)
	if got := r.logs.find("with a restart"); !strings.Contains(got, "dispatch.maxInFlight") {
		t.Errorf("it says %q", got)
	}
}
