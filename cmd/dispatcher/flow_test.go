package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// long tells that SIDESTEP_LONG=1 asks for larger counts.
func long() bool { return os.Getenv("SIDESTEP_LONG") == "1" }

// scaled is n, or more with SIDESTEP_LONG=1.
func scaled(n, more int) int {
	if long() {
		return more
	}
	return n
}

// seed is SIDESTEP_SEED, or a new one.
func seed(t testing.TB) uint64 {
	t.Helper()
	s := os.Getenv("SIDESTEP_SEED")
	if s == "" {
		return uint64(time.Now().UnixNano())
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("SIDESTEP_SEED: %v", err)
	}
	return n
}

// eachMode runs a test once with hops that skip the store, and once without.
func eachMode(t *testing.T, f func(t *testing.T, shortCircuit string)) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long: it starts processes and kills them")
	}
	for _, mode := range []string{"Always", "Never"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			f(t, mode)
		})
	}
}

// sequenceYAML is a Sequence of the steps; delivery is in YAML's flow style.
func sequenceYAML(shortCircuit, delivery string, steps ...*endpoint) string {
	var b strings.Builder
	fmt.Fprintf(&b, `apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: numbered}
spec:
  channelTemplate:
    apiVersion: messaging.sidestep.dev/v1alpha1
    kind: SidestepChannel
    spec: {shortCircuit: %s}
  steps:
`, shortCircuit)
	for _, s := range steps {
		fmt.Fprintf(&b, "    - uri: %s\n      delivery: {%s}\n", s.url(), delivery)
	}
	return b.String()
}

// trial is a Sequence of three steps in a dispatcher process, and the events
// that go through it.
type trial struct {
	*installation
	*sender
	steps [3]*endpoint
	calls *pulse // of all steps
	end   *ledger
	dice  *dice
}

// patient has a step's trouble last longer than any test's.
const patient = "retry: 50, backoffPolicy: linear, backoffDelay: PT0.1S"

// newTrial starts three healthy steps.
func newTrial(t *testing.T) *trial {
	t.Helper()
	r := &trial{calls: newPulse(), end: newLedger(), dice: newDice(t)}
	r.steps = [3]*endpoint{
		startEndpoint(t, forward(t, r.calls)),
		startEndpoint(t, forward(t, r.calls)),
		startEndpoint(t, collect(t, r.calls, r.end)),
	}
	return r
}

// begin starts the dispatcher and the events.
func (r *trial) begin(t *testing.T, yaml, data string, events, clients int) {
	t.Helper()
	r.installation = install(t, yaml, data)
	r.sender = send(t, r.start(t), 0, events, clients)
}

// progress is the number of events accepted plus that of those at the end.
func (r *trial) progress() int { return int(r.count.Load()) + r.end.reached() }

// moments are n points in a trial's progress, up to limit, in order.
func (r *trial) moments(n, limit int) []int {
	m := make([]int, n)
	for i := range m {
		// One in each nth, so that they are spread and yet anywhere.
		m[i] = (i*limit + r.dice.roll(limit)) / n
	}
	return m
}
