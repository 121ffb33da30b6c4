package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/steps"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/workload"
)

// instance is a contender that runs.
type instance struct {
	url string // where events are posted
	// child is its process, nil if the steps' process is all there is.
	child *process.Child
	// beside is another process of it, nil if there is none.
	beside *process.Child
	// check tells whether it has done what it was started for; nil: it has.
	check func(ctx context.Context) error
	// admin is the address that has /debug/pprof, if any.
	admin string
}

func (i *instance) stop() {
	if i.child != nil {
		i.child.Stop()
	}
	if i.beside != nil {
		i.beside.Stop()
	}
}

// startRole runs this program as a child.
func startRole(ctx context.Context, name string, args ...string) (*process.Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return process.Start(ctx, process.Command{
		Name: name, Path: self, Args: append([]string{childArg, name}, args...),
	})
}

// roleBefore starts a role of this program in front of the steps.
func roleBefore(name string) func(context.Context, *bench, string, string) (*instance, error) {
	return func(ctx context.Context, _ *bench, steps, dir string) (*instance, error) {
		child, err := startRole(ctx, name, "-steps", steps, "-dir", dir, "-transport", string(storeTransport))
		if err != nil {
			return nil, err
		}
		return &instance{url: child.URL, child: child}, nil
	}
}

func startDirect(_ context.Context, _ *bench, base, _ string) (*instance, error) {
	return &instance{url: steps.DirectURL(base, 1)}, nil
}

func startInMemory(ctx context.Context, b *bench, steps, _ string) (*instance, error) {
	child, err := process.Start(ctx, process.Command{Name: inMemory, Path: b.path(binaryInMemory), Args: []string{steps}})
	if err != nil {
		return nil, err
	}
	return &instance{url: child.URL, child: child}, nil
}

// startSequence starts Sidestep with a Sequence of all the steps.
func startSequence(shortCircuit string) func(context.Context, *bench, string, string) (*instance, error) {
	return func(ctx context.Context, b *bench, base, dir string) (*instance, error) {
		var uris []string
		for step := 1; step <= workload.Steps; step++ {
			uris = append(uris, workload.StepURL(base, step))
		}
		return startSidestep(ctx, b, dir, shortCircuit, uris)
	}
}

// startHanging starts Sidestep with a Sequence whose only step never answers:
// what is accepted stays stored, and next to nothing is delivered meanwhile.
func startHanging(ctx context.Context, b *bench, base, dir string) (*instance, error) {
	return startSidestep(ctx, b, dir, "Always", []string{base + "/hang"})
}

const sequenceName = "bench"

// sequenceYAML is a Sequence as a user writes it.
func sequenceYAML(shortCircuit string, uris []string) string {
	var y strings.Builder
	fmt.Fprintf(&y, `apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: %s, namespace: default}
spec:
  channelTemplate:
    apiVersion: messaging.sidestep.dev/v1alpha1
    kind: SidestepChannel
    spec: {shortCircuit: %s}
  steps:
`, sequenceName, shortCircuit)
	for _, uri := range uris {
		fmt.Fprintf(&y, "  - uri: %q\n", uri)
	}
	return y.String()
}

// startSidestep runs the real binary, with nothing set but where it listens and
// keeps its files.
func startSidestep(ctx context.Context, b *bench, dir, shortCircuit string, uris []string) (*instance, error) {
	return startFlow(ctx, b, dir, sequenceYAML(shortCircuit, uris))
}

// startFlow runs the real binary on a file, with more arguments.
func startFlow(ctx context.Context, b *bench, dir, yaml string, more ...string) (*instance, error) {
	file := filepath.Join(dir, "sequence.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		return nil, fmt.Errorf("write the sequence: %w", err)
	}
	child, err := process.Start(ctx, process.Command{
		Name: "the dispatcher",
		Path: b.path(binaryDispatcher),
		Args: append([]string{
			"standalone", "-f", file,
			"--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
			"--data", filepath.Join(dir, "data"), "--output", "json",
		}, more...),
		Accept: func(r process.Ready) bool { return r.Kind == "Sequence" && r.Name == sequenceName },
	})
	if err != nil {
		return nil, err
	}
	admin, err := awaitAdmin(ctx, child)
	if err != nil {
		child.Stop()
		return nil, err
	}
	return &instance{url: child.URL, child: child, admin: admin}, nil
}

var errNoAdmin = errors.New("the dispatcher did not log its admin address")

// awaitAdmin waits until the dispatcher has logged where its admin server is.
func awaitAdmin(ctx context.Context, child *process.Child) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errNoAdmin)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if admin := adminOf(child.Said()); admin != "" {
			return admin, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", child.Explain(context.Cause(ctx))
		}
	}
}

var adminAttr = regexp.MustCompile(`(?m)^.*\bmsg=serving\b.*\sadmin=(\S+)`)

// adminOf finds the admin address in the log, "" if it is not there yet.
func adminOf(log string) string {
	if m := adminAttr.FindStringSubmatch(log); m != nil {
		return m[1]
	}
	return ""
}
