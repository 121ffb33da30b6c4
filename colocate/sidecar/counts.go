package sidecar

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// counts are since the process began.
type counts struct {
	calls, passed, completed, busy, gone, refused, lost atomic.Uint64
	spilled                                             [wire.NotMine + 1]atomic.Uint64
}

func (c *counts) outcome(o *wire.Outcome) {
	switch o.Kind {
	case wire.Completed:
		c.completed.Add(1)
	case wire.Busy:
		c.busy.Add(1)
	default:
		c.spilled[o.Reason].Add(1)
	}
}

// metrics is the text format of Prometheus.
func (s *Sidecar) metrics() string {
	var b strings.Builder
	chains := func(outcome string, n uint64) {
		fmt.Fprintf(&b, "sidestep_sidecar_chains_total{outcome=%q} %d\n", outcome, n)
	}
	c := &s.counts
	b.WriteString("# HELP sidestep_sidecar_chains_total Chains that were asked for, by what became of them.\n" +
		"# TYPE sidestep_sidecar_chains_total counter\n")
	chains("completed", c.completed.Load())
	chains("busy", c.busy.Load())
	chains("cancelled", c.gone.Load())
	chains("refused", c.refused.Load())
	chains("lost", c.lost.Load())
	for r := wire.Overload; r < wire.NotMine; r++ {
		chains("spilled-"+r.String(), c.spilled[r].Load())
	}
	b.WriteString("# HELP sidestep_sidecar_calls_total Calls of steps.\n# TYPE sidestep_sidecar_calls_total counter\n")
	fmt.Fprintf(&b, "sidestep_sidecar_calls_total %d\n", c.calls.Load())
	b.WriteString("# HELP sidestep_sidecar_passed_total Requests without a slip that were passed on to a step.\n" +
		"# TYPE sidestep_sidecar_passed_total counter\n")
	fmt.Fprintf(&b, "sidestep_sidecar_passed_total %d\n", c.passed.Load())
	gauge := func(name, help string, v int64) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s gauge\n%s %d\n", name, help, name, name, v)
	}
	gauge("sidestep_sidecar_chains", "Chains under way.", s.chains.Load())
	gauge("sidestep_sidecar_memory_bytes", "Bytes of events in memory.", s.memory.Used())
	gauge("sidestep_sidecar_claim_bytes", "Bytes of events in the folder for claims.", s.spool.used.Load())
	b.WriteString("# HELP sidestep_sidecar_step_calls Calls of a step under way, and those that wait.\n" +
		"# TYPE sidestep_sidecar_step_calls gauge\n")
	for _, st := range s.steps {
		fmt.Fprintf(&b, "sidestep_sidecar_step_calls{port=%q,state=\"running\"} %d\n", st.name, len(st.places))
		fmt.Fprintf(&b, "sidestep_sidecar_step_calls{port=%q,state=\"waiting\"} %d\n", st.name, st.waiting.Load())
	}
	return b.String()
}
