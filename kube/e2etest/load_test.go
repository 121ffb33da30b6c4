package e2etest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// flow is a client that posts to the first channel of a Sequence, and a collector at
// its end.
type flow struct {
	*scene
	address string
}

type posted struct {
	Accepted []string       `json:"accepted"`
	Refused  map[string]int `json:"refused"`
	Posting  int            `json:"posting"`
}

type collected struct {
	Came map[string]struct {
		Times int    `json:"times"`
		Way   string `json:"way"`
	} `json:"came"`
	Wrong []string `json:"wrong"`
}

// patient is a delivery spec. A killed pod takes a while to come back: these are many more
// attempts than an outage has. A Service refuses connections for a moment after its first
// pod is ready, too, until the node knows.
const patient = "{retry: 100, backoffPolicy: linear, backoffDelay: PT0.5S, timeout: PT10S}"

// sequence is a Sequence "flow" of steps, which are Services, to the Service "end".
func sequence(shortCircuit string, steps ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: flow}
spec:
  channelTemplate:
    apiVersion: messaging.sidestep.dev/v1alpha1
    kind: SidestepChannel
    spec: {shortCircuit: %s}
  reply: {ref: {apiVersion: v1, kind: Service, name: end}}
  steps:
`, shortCircuit)
	for _, s := range steps {
		fmt.Fprintf(&b, "  - ref: {apiVersion: v1, kind: Service, name: %s}\n    delivery: %s\n", s, patient)
	}
	return b.String()
}

// newFlow starts the steps, the collector and the Sequence.
func newFlow(t *testing.T, shortCircuit string, steps ...string) *flow {
	t.Helper()
	s := newScene(t)
	s.part("end", "collect")
	for _, step := range steps {
		s.part(step, "answer", "--name", step)
	}
	return s.flow(shortCircuit, steps...)
}

// flow makes the Sequence; its steps and collector run.
func (s *scene) flow(shortCircuit string, steps ...string) *flow {
	s.t.Helper()
	s.apply(sequence(shortCircuit, steps...))
	s.ready("flows.knative.dev/v1", "Sequence", "flow")
	u := object("flows.knative.dev/v1", "Sequence", s.ns, "flow")
	if err := s.api.Get(s.ctx, client.ObjectKeyFromObject(u), u); err != nil {
		s.t.Fatal(err)
	}
	return &flow{scene: s, address: text(u, "status", "address", "url")}
}

// post starts a client.
func (f *flow) post(args ...string) {
	f.t.Helper()
	f.part("client", "post", append([]string{"--to", f.address}, args...)...)
}

// posted is what the client says.
func (f *flow) posted() posted {
	f.t.Helper()
	var p posted
	f.await("the client's report", func() error { return f.ask("GET", "client", "report", &p) })
	return p
}

func (f *flow) collected() collected {
	f.t.Helper()
	var c collected
	f.await("the collector's report", func() error { return f.ask("GET", "end", "report", &c) })
	return c
}

// How data came to a step by reference, as the event's way says.
const (
	byLink = "link"
	byFile = "file"
)

// came tells whether an event has come to the end a way.
func (f *flow) came(way string) error {
	seen := map[string]int{}
	for _, a := range f.collected().Came {
		if a.Way == way {
			return nil
		}
		seen[a.Way]++
	}
	return fmt.Errorf("none came the way %s; ways of others: %v", way, seen)
}

// flowing waits until more events have come to the end than had.
func (f *flow) flowing() {
	f.t.Helper()
	had := len(f.collected().Came)
	f.await("more events at the end", func() error {
		if n := len(f.collected().Came); n < had+10 {
			return fmt.Errorf("%d came since", n-had)
		}
		return nil
	})
}

// stop ends the client and waits until each event that it saw accepted has come to the
// end, with its data as it was sent.
func (f *flow) stop() collected {
	f.t.Helper()
	f.await("the client to stop", func() error { return f.ask("POST", "client", "stop", nil) })
	var p posted
	f.await("its last answers", func() error {
		if p = f.posted(); p.Posting > 0 {
			return fmt.Errorf("%d requests are under way", p.Posting)
		}
		return nil
	})
	if len(p.Accepted) == 0 {
		f.t.Fatalf("nothing was accepted: %v", p.Refused)
	}
	var c collected
	f.await("all that was accepted", func() error {
		c = f.collected()
		missing := slices.DeleteFunc(slices.Clone(p.Accepted), func(id string) bool { return c.Came[id].Times > 0 })
		if len(missing) > 0 {
			return fmt.Errorf("of %d accepted %d are missing, such as %s", len(p.Accepted), len(missing), missing[0])
		}
		return nil
	})
	if len(c.Wrong) > 0 {
		f.t.Errorf("%d events came with wrong data, such as %s", len(c.Wrong), c.Wrong[0])
	}
	again := 0
	for a := range maps.Values(c.Came) {
		again += a.Times - 1
	}
	f.t.Logf("%d accepted, none missing, %d came again; refused: %v", len(p.Accepted), again, p.Refused)
	return c
}
