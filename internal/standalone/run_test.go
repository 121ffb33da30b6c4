package standalone

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/internal/telemetry"
)

const flow = `apiVersion: flows.knative.dev/v1
kind: Parallel
metadata: {name: fan, namespace: other}
spec:
  branches:
    - subscriber: {uri: http://127.0.0.1:1/}
`

func TestAddressesArePrintedWhenTheyAreReady(t *testing.T) {
	t.Parallel()
	for _, asJSON := range []bool{false, true} {
		t.Run(fmt.Sprintf("json %v", asJSON), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.write("a.yaml", sequenceYAML("pics", "Always", s.step("a"), s.step("b"))+"---\n"+flow+"---\n"+channelYAML)
			ready := make(chan int, 1)
			var r *running
			begun := make(chan struct{})
			r = s.begin(func(c *Config) {
				c.JSON = asJSON
				c.Stdout.(*output).first = func() {
					<-begun
					status, _ := r.get("/readyz")
					ready <- status
				}
			})
			close(begun)
			if got := <-ready; got != http.StatusOK {
				t.Errorf("when the first address was printed /readyz said %d", got)
			}
			want := fmt.Sprintf("sequence default/pics  %[1]s/default/pics-kn-sequence-0\n"+
				"parallel other/fan  %[1]s/other/fan-kn-parallel\n"+
				"sidestepchannel default/other  %[1]s/default/other\n", r.base)
			if asJSON {
				want = fmt.Sprintf(`{"kind":"Sequence","namespace":"default","name":"pics","url":"%[1]s/default/pics-kn-sequence-0"}
{"kind":"Parallel","namespace":"other","name":"fan","url":"%[1]s/other/fan-kn-parallel"}
{"kind":"SidestepChannel","namespace":"default","name":"other","url":"%[1]s/default/other"}
`, r.base)
			}
			eventually(t, "all addresses", func() bool { return len(r.stdout.String()) >= len(want) })
			if got := r.stdout.String(); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

func TestEventGoesThroughTheStepsAndLeavesItsTraces(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("a.yaml", sequenceYAML("seq", "Always", s.step("a"), s.step("b")))
	r := s.start()
	res, err := client.Get(r.admin + "/debug/hops")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	r.accept("/default/seq-kn-sequence-0", "1")
	s.wantDelivered("a", "1")
	s.wantDelivered("b", "1")

	var hops []string
	for lines := bufio.NewScanner(res.Body); len(hops) < 2 && lines.Scan(); {
		var l telemetry.HopLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		hops = append(hops, fmt.Sprintf("%s %s %s %d", l.ID, l.Channel, l.Travel, l.Status))
	}
	want := "1 seq-kn-sequence-0 stored 200, 1 seq-kn-sequence-1 short-circuited 200"
	if got := strings.Join(hops, ", "); got != want {
		t.Errorf("hops: got %s, want %s", got, want)
	}
	eventually(t, "the record to be counted", func() bool { return r.metric(`sidestep_records_total{ending="completed"} 1`) })
	_, metrics := r.get("/metrics")
	for _, series := range []string{
		`sidestep_ingress_events_total{channel="seq-kn-sequence-0",code="202",namespace="default"} 1`,
		`sidestep_hops_total{channel="seq-kn-sequence-1",code="200",leg="step",namespace="default",travel="short-circuited"} 1`,
		`kn_eventing_dispatch_duration_seconds_count{channel="seq-kn-sequence-0",leg="step",namespace="default"} 1`,
		`sidestep_reloads_total{result="applied"} 0`,
		`sidestep_reloads_total{result="failed"} 0`,
		`sidestep_records_discarded_total 0`,
		`sidestep_records_in_flight 0`,
		`sidestep_records_parked 0`,
		`sidestep_budget_used_bytes 0`,
		`sidestep_budget_bytes 2.68435456e+08`,
		`sidestep_backend_full 0`,
	} {
		if !strings.Contains(metrics, "\n"+series+"\n") {
			t.Errorf("/metrics lacks %s", series)
		}
	}
	for path, want := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/debug/pprof/": 200, "/debug/pprof/cmdline": 200, "/": 404,
	} {
		if got, _ := r.get(path); got != want {
			t.Errorf("%s: got %d, want %d", path, got, want)
		}
	}
}

func TestChannelIsReachedByItsHostOnACluster(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("a.yaml", sequenceYAML("seq", "Never", s.step("a")))
	r := s.start()
	req, err := http.NewRequest(http.MethodPost, r.base+"/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "seq-kn-sequence-0-kn-channel.default.svc.cluster.local"
	for name, value := range map[string]string{"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t"} {
		req.Header.Set(name, value)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusAccepted {
		t.Errorf("got status %d", res.StatusCode)
	}
	s.wantDelivered("a", "1")
}

func TestProblemsWithTheFilesAreReportedBeforeAnythingIsMade(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("a.yaml", "apiVersion: flows.knative.dev/v1\nkind: Sequence\nmetadata: {name: x}\nspec: {stepz: []}\n")
	key := filepath.Join(t.TempDir(), "slip.pem")
	r := s.begin(func(c *Config) { c.SlipKey = key })
	if err := r.end(); err == nil || !strings.Contains(err.Error(), "a.yaml:4") || !strings.Contains(err.Error(), "stepz") {
		t.Errorf("got %v, want the line and the field", err)
	}
	for _, made := range []string{s.data, key} {
		if _, err := os.Stat(made); !os.IsNotExist(err) {
			t.Errorf("%s was made (%v)", made, err)
		}
	}
}

func TestSecondProcessOnOneDataFolderIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("a.yaml", channelYAML)
	s.start()
	if err := s.begin().end(); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("got %v, want it refused", err)
	}
}

func TestStartThatIsCalledOffIsNoFailure(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("a.yaml", channelYAML)
	r := s.begin()
	r.stop() // at whatever point it has come to
	if err := r.end(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

func TestReadinessFollowsTheLife(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("a.yaml", sequenceYAML("seq", "Never", s.step("a")))
	release := s.stall("a")
	r := s.start()
	if got, _ := r.get("/readyz"); got != http.StatusOK {
		t.Errorf("serving: /readyz said %d", got)
	}
	r.accept("/default/seq-kn-sequence-0", "1")
	s.waitFor("a 1")
	r.stop()
	eventually(t, "/readyz to say that it stops", func() bool {
		status, text := r.get("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(text, "stopping")
	})
	if got, _ := r.get("/healthz"); got != http.StatusOK {
		t.Errorf("while it drains /healthz said %d", got)
	}
	release()
	if err := r.end(); err != nil {
		t.Errorf("Run returned %v, want nil", err)
	}
	if got := s.got("a")["1"]; got != 1 {
		t.Errorf("what was in flight was delivered %d times, want once", got)
	}
}

// What was in flight was settled: it does not come back.
func TestStopFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"Always", "Never"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.write("a.yaml", sequenceYAML("seq", mode, s.step("a"), s.step("b")))
			release := s.stall("a")
			r := s.start()
			r.accept("/default/seq-kn-sequence-0", "1", "2", "3")
			for range 3 {
				<-s.came
			}
			r.stop()
			eventually(t, "the stop", func() bool { return r.logs.find("stopping") != "" })
			release()
			if err := r.end(); err != nil {
				t.Errorf("Run returned %v, want nil", err)
			}
			r = s.start()
			s.wantDelivered("b", "1", "2", "3")
			r.stop()
			if err := r.end(); err != nil {
				t.Error(err)
			}
			for id, n := range s.got("a") {
				if n != 1 {
					t.Errorf("step a answered event %s %d times, want once", id, n)
				}
			}
		})
	}
}

func TestDrainThatTakesTooLongEndsAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("a.yaml", sequenceYAML("seq", "Always", s.step("a"), s.step("b")))
	release := s.stall("b")
	r := s.start(func(c *Config) { c.Drain = 50 * time.Millisecond })
	r.accept("/default/seq-kn-sequence-0", "1", "2")
	s.waitFor("b 1")
	r.stop()
	if err := r.end(); err != nil { // and end fails if it does not come
		t.Errorf("Run returned %v, want nil", err)
	}
	if r.logs.find("not all that was in flight could be finished") == "" {
		t.Error("the log does not say that something was given back")
	}
	if len(s.got("b")) > 0 {
		t.Error("the step that was stalled has answered")
	}
	release()
	s.start()
	s.wantDelivered("b", "1", "2")
}

func TestRestartDeliversWhatWasStoredBefore(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("a.yaml", sequenceYAML("seq", "Never", s.step("a"), s.step("b")))
	release := s.stall("a")
	r := s.start(func(c *Config) { c.Drain = 0 })
	r.accept("/default/seq-kn-sequence-0", "1", "2", "3")
	r.stop()
	if err := r.end(); err != nil {
		t.Errorf("Run returned %v, want nil", err)
	}
	release()
	s.start()
	s.wantDelivered("b", "1", "2", "3")
}
