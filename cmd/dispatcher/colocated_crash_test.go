package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

// These tests kill dispatcher, sidecars and steps at random while numbered events
// go through a Sequence whose steps share pods, two of each:
//
//	                          SIGKILL      connections cut
//	sender --> [dispatcher] --> [sidecar] --> step 0, 1, 2 --> ledger
//	             SIGKILL   \--> [sidecar] --> step 0, 1, 2 --^

// localPod is a sidecar process and the steps that it may call.
type localPod struct {
	binary, address, pub string
	steps                [3]*endpoint
	stderr               transcript

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan error
}

// sidecarBinary builds the sidecar, as a user gets it.
func sidecarBinary(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sidecar")
	if out, err := exec.Command("go", "build", "-o", path, "../sidecar").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

func (p *localPod) start(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var ports []string
	for _, s := range p.steps {
		ports = append(ports, portOf(t, s))
	}
	p.cmd = exec.Command(p.binary, "--listen", p.address, "--allow", strings.Join(ports, ","), "--trust-keys", p.pub, "--log-level", "warn")
	p.cmd.SysProcAttr = childAttr()
	p.cmd.Stderr = &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Error(err)
		p.cmd = nil
		return
	}
	p.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan<- error) { ended <- cmd.Wait() }(p.cmd, p.ended)
}

func (p *localPod) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.ended
	p.cmd = nil
}

func portOf(t testing.TB, s *endpoint) string {
	t.Helper()
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// podsYAML declares Services at the steps of the first pod, and all pods.
func podsYAML(t testing.TB, pods ...*localPod) string {
	var b strings.Builder
	for i, s := range pods[0].steps {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: step-%d\n  annotations: {sidestep.dev/address: %q}\n",
			i, "http://"+s.address)
	}
	for k, p := range pods {
		fmt.Fprintf(&b, "---\napiVersion: sidestep.dev/v1alpha1\nkind: LocalPod\nmetadata: {name: pod-%d}\nspec:\n  sidecar: http://%s\n  steps:\n", k, p.address)
		for i, s := range p.steps {
			fmt.Fprintf(&b, "  - {service: step-%d, port: %s}\n", i, portOf(t, s))
		}
	}
	return b.String()
}

// newPods starts two sidecars, beside the trial's steps and others.
func (r *trial) newPods(t *testing.T, pub string) []*localPod {
	t.Helper()
	binary := sidecarBinary(t)
	others := [3]*endpoint{
		startEndpoint(t, forward(t, r.calls)),
		startEndpoint(t, forward(t, r.calls)),
		startEndpoint(t, collect(t, r.calls, r.end)),
	}
	var pods []*localPod
	for _, steps := range [][3]*endpoint{r.steps, others} {
		p := &localPod{binary: binary, address: brokertest.FreeAddress(t), pub: pub, steps: steps}
		t.Cleanup(func() {
			p.kill()
			if t.Failed() {
				t.Logf("a sidecar wrote to stderr, last:\n%s", p.stderr.tail(20))
			}
		})
		pods = append(pods, p)
	}
	return pods
}

func TestKillingWhateverRunsAColocatedChainLosesNoAcceptedEvent(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long: it starts processes and kills them")
	}
	for _, mode := range []string{"Colocated", "Always"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			killColocated(t, mode)
		})
	}
}

func killColocated(t *testing.T, mode string) {
	const events, clients = 10_000, 32
	r := newTrial(t)
	key := filepath.Join(t.TempDir(), "slip.pem")
	pods := r.newPods(t, key+".pub")
	r.installation = install(t, sequenceYAML(mode, patient, r.steps[:]...)+podsYAML(t, pods...), "")
	r.args = []string{"--slip-key", key}
	url := r.start(t) // and makes the keys
	for _, p := range pods {
		p.start(t)
	}
	r.sender = send(t, url, 0, scaled(events, 5*events), clients)

	var others sync.WaitGroup
	sidecars, steps := scaled(6, 40), scaled(4, 30)
	beside := func(n int, strike func()) {
		moments := r.moments(n, r.events)
		others.Go(func() {
			for _, at := range moments {
				for r.progress() < at && !t.Failed() {
					time.Sleep(5 * time.Millisecond)
				}
				strike()
			}
		})
	}
	beside(sidecars, func() {
		p := pods[r.dice.roll(len(pods))]
		p.kill()
		time.Sleep(time.Duration(r.dice.roll(500)) * time.Millisecond)
		p.start(t)
	})
	beside(steps, func() {
		s := pods[r.dice.roll(len(pods))].steps[r.dice.roll(3)]
		s.close()
		time.Sleep(time.Duration(r.dice.roll(300)) * time.Millisecond)
		s.open(t)
	})
	t.Cleanup(others.Wait)
	k := r.killAtRandom(t, scaled(6, 40))
	others.Wait()
	awaitAll(t, r.sender, r.end)
	awaitQuiet(t, r.end)
	r.alive(t)

	// P3, as where the dispatcher alone is killed; and what ran in a sidecar, or
	// was with a step, when that was killed: at most what was in flight.
	bound := k.kills*len(r.steps)*window + k.calls + (sidecars+steps)*len(r.steps)*window
	duplicates := r.end.duplicates()
	local := r.sum(t, "sidestep_hops_total{", `travel="colocated"`)
	t.Logf("%s: %d dispatchers, %d sidecars and %d steps killed, %d events, %.0f events/s accepted; %d duplicates at the last step "+
		"(P3 allows %d); the last dispatcher made %.0f hops within pods, and repeated %s steps",
		mode, k.kills, sidecars, steps, r.events, r.rate(), duplicates, bound, local, r.metric(t, "sidestep_repeated_steps_total"))
	if duplicates > bound {
		t.Errorf("%d duplicates: at most %d are accounted for", duplicates, bound)
	}
	if local == 0 {
		t.Error("no hop was made within a pod: this test is about another thing")
	}
}

// sum of the series of a metric that have a label.
func (i *installation) sum(t testing.TB, prefix, label string) (sum float64) {
	t.Helper()
	answer, err := http.Get("http://" + i.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		l := lines.Text()
		if !strings.HasPrefix(l, prefix) || !strings.Contains(l, label) {
			continue
		}
		v, err := strconv.ParseFloat(l[strings.LastIndexByte(l, ' ')+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return sum
}
