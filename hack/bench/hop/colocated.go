package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/pod"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/workload"
)

// The report of `make bench-colocate`.
const (
	colocateBeside  = netHTTP + "," + fastHTTP + "," + direct + "," + inMemory + "," + sidestepAlways
	colocateSection = "bench-colocate"
	colocateCommand = "make bench-colocate"
)

const colocateMethod = `The same events, steps, generator and measurements as those of ` + "`make bench-hop`" + `. *Colocated* are the
released dispatcher (standalone, embedded JetStream, files on disk, its default sync) and the released
sidecar, each a process of its own: an event is stored, goes to the sidecar in one exchange, and from step to step
there. Its CPU and memory are those of both processes. A measurement in which the hops were not made within the
pod does not count.
`

// startColocated starts a sidecar beside the steps, and Sidestep with a LocalPod.
func startColocated(ctx context.Context, b *bench, base, dir string) (*instance, error) {
	p, err := pod.Start(ctx, b.path(binarySidecar), dir, base, "")
	if err != nil {
		return nil, err
	}
	var uris []string
	for step := 1; step <= workload.Steps; step++ {
		uris = append(uris, workload.StepURL(base, step))
	}
	i, err := startFlow(ctx, b, dir, sequenceYAML("Colocated", uris)+p.Documents, "--slip-key", p.Key)
	if err != nil {
		p.Stop()
		return nil, err
	}
	i.beside = p.Child
	i.check = i.wasLocal
	return i, nil
}

var errNotLocal = errors.New("the hops were not made within the pod")

// leastLocal is the part of the hops that must be made within the pod: all, but for a
// few before the sidecar was known.
const leastLocal = 0.99

// wasLocal tells whether the hops were made within the pod.
func (i *instance) wasLocal(ctx context.Context) error {
	body, err := fetch(ctx, "http://"+i.admin+"/metrics")
	if err != nil {
		return err
	}
	var local, all float64
	for line := range bytes.Lines(body) {
		l := strings.TrimSpace(string(line))
		if !strings.HasPrefix(l, "sidestep_hops_total{") || !strings.Contains(l, `leg="step"`) {
			continue
		}
		n, err := strconv.ParseFloat(l[strings.LastIndexByte(l, ' ')+1:], 64)
		if err != nil {
			return fmt.Errorf("read %q: %w", l, err)
		}
		all += n
		if strings.Contains(l, `travel="colocated"`) {
			local += n
		}
	}
	// The first step of a chain is not a hop from another one.
	if want := all * (workload.Steps - 1) / workload.Steps; local < leastLocal*want {
		return fmt.Errorf("%w: %.0f of %.0f", errNotLocal, local, want)
	}
	return nil
}
