package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/pod"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// sizes of payloads: one that travels in the log, and those of the talk's experiment.
func sizes() []int64 {
	all := []int64{kib, 500 * kib}
	for s := int64(mib); s <= 512*mib; s *= 2 {
		all = append(all, s)
	}
	return all
}

func chooseSizes(only string) ([]int64, error) {
	if only == "" {
		return sizes(), nil
	}
	var chosen []int64
	for text := range strings.SplitSeq(only, ",") {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no size in KiB", text)
		}
		chosen = append(chosen, n*kib)
	}
	return chosen, nil
}

// contender carries payloads.
type contender struct {
	name string
	// reference: what is measured is the hop from step to step.
	reference bool
	// s3: payloads are kept on an S3 server, rather than in files.
	s3 bool
	// made: the payload is the first step's answer to a small event, and what is
	// measured is the hop to the second one.
	made bool
	// pod: there is a sidecar beside the steps.
	pod bool
}

const (
	podRelay  = "pod-relay"
	podValue  = "pod-value"
	podRef    = "pod-reference"
	bareRelay = "relay"
	valueFile = "value-file"
	valueS3   = "value-s3"
	refFile   = "reference-file"
	refS3     = "reference-s3"
)

func contenders() []contender {
	return []contender{
		{name: bareRelay},
		{name: valueFile},
		{name: valueS3, s3: true},
		{name: refFile, reference: true},
		{name: refS3, reference: true, s3: true},
	}
}

// inPod are those of bench-colocate.
func inPod() []contender {
	return []contender{
		{name: podRelay, made: true},
		{name: podValue, made: true, pod: true},
		{name: podRef, reference: true, made: true, pod: true},
	}
}

func choose(all []contender, only string) ([]contender, error) {
	if only == "" {
		return all, nil
	}
	var chosen []contender
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(c contender) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no contender %q", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// running is a contender in processes of its own.
type running struct {
	*process.Child
	store *process.Child // the S3 server, or nil
	pod   *pod.Pod       // nil if there is none
	dir   string
	// shared is the pod's folder in memory, "" if there is none.
	shared string
}

// measured is the process whose memory counts: in a pod the sidecar's, as the
// steps' room is its own.
func (r *running) measured() *process.Child {
	if r.pod != nil {
		return r.pod.Child
	}
	return r.Child
}

func (r *running) stop() {
	r.Stop()
	if r.store != nil {
		r.store.Stop()
	}
	if r.pod != nil {
		r.pod.Stop()
	}
	os.RemoveAll(r.dir)
	os.RemoveAll(r.shared)
}

// start starts a contender with fresh folders.
func (b *bench) start(ctx context.Context, c contender) (*running, error) {
	dir, err := os.MkdirTemp(b.dir, c.name+"-")
	if err != nil {
		return nil, err
	}
	r := &running{dir: dir}
	if c.made {
		if r.shared, err = os.MkdirTemp(memoryVolume(b.dir), "bench-pod-"); err != nil {
			return nil, err
		}
		dir = r.shared
	}
	if c.name == bareRelay || c.name == podRelay {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		args := []string{childArg, "-to", b.steps.url + "/sink", "-dir", dir}
		if c.made {
			args = append(args, "-from", b.steps.url+"/make")
		}
		r.Child, err = process.Start(ctx, process.Command{Name: c.name, Path: self, Args: args})
		return r, err
	}
	if c.pod {
		return r, r.startPod(ctx, b, c)
	}
	store := ""
	if c.s3 {
		if store, err = r.startS3(ctx, b); err != nil {
			return nil, err
		}
	}
	file := filepath.Join(dir, "flow.yaml")
	if err := os.WriteFile(file, []byte(b.flow(c, store)), 0o600); err != nil {
		return nil, err
	}
	if err := r.dispatch(ctx, b, file); err != nil {
		if r.store != nil {
			r.store.Stop()
		}
		return nil, err
	}
	return r, nil
}

// dispatch starts the dispatcher, with more arguments.
func (r *running) dispatch(ctx context.Context, b *bench, file string, more ...string) (err error) {
	r.Child, err = process.Start(ctx, process.Command{
		Name: "the dispatcher", Path: b.path("dispatcher"),
		Args: append([]string{
			"standalone", "-f", file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
			"--data", filepath.Join(r.dir, "data"), "--output", "json",
		}, more...),
		Accept: func(r process.Ready) bool { return r.Kind == "Sequence" },
	})
	return err
}

// startPod starts a sidecar with a folder for claims, and a dispatcher that knows
// it.
func (r *running) startPod(ctx context.Context, b *bench, c contender) (err error) {
	annotations := ""
	if c.reference {
		annotations = ", sidestep.dev/payload: reference"
	}
	r.pod, err = pod.Start(ctx, b.path("sidecar"), r.dir, b.steps.url, annotations,
		"--claims", r.shared, "--claim-bytes", strconv.Itoa(claimBytes))
	if err != nil {
		return err
	}
	file := filepath.Join(r.dir, "flow.yaml")
	if err = os.WriteFile(file, []byte(podConfig+sequence(c, "Colocated")+r.pod.Documents), 0o600); err == nil {
		err = r.dispatch(ctx, b, file, "--slip-key", r.pod.Key)
	}
	if err != nil {
		r.pod.Stop()
	}
	return err
}

// memoryVolume is where a folder in memory can be, as pods share one; the one given if
// there is none here.
func memoryVolume(otherwise string) string {
	const shm = "/dev/shm"
	var fs syscall.Statfs_t
	if syscall.Statfs(shm, &fs) != nil || int64(fs.Bavail)*fs.Bsize < claimBytes {
		return otherwise
	}
	return shm
}

// claimBytes has room for the payloads that are measured at once, as they come and as
// they go.
const claimBytes = 2 * atOnce * 512 * mib

// podConfig has no chain stored since it takes long: what is measured is the pod.
const podConfig = `apiVersion: v1
kind: ConfigMap
metadata: {name: config-sidestep}
data:
  dispatch: "checkpointAfter: 10m"
---
`

func (r *running) startS3(ctx context.Context, b *bench) (store string, err error) {
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "sidestep", "AWS_SECRET_ACCESS_KEY": "sidestep-bench"} {
		if err := os.Setenv(name, value); err != nil {
			return "", err
		}
	}
	r.store, err = process.Start(ctx, process.Command{
		Name: "the S3 server", Path: b.path("s3"), Args: []string{"-dir", filepath.Join(r.dir, "s3")},
	})
	if err != nil {
		return "", err
	}
	return "s3://claims?region=us-east-1&endpoint=" + r.store.URL, nil
}

// flow is what a user would write.
func (b *bench) flow(c contender, store string) string {
	var y strings.Builder
	if store != "" {
		fmt.Fprintf(&y, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-sidestep}\ndata:\n  claim-check: |\n    store: %s\n---\n", store)
	}
	payload := "value"
	if c.reference {
		payload = "reference"
	}
	fmt.Fprintf(&y, `apiVersion: v1
kind: Service
metadata: {name: steps, annotations: {sidestep.dev/address: %q, sidestep.dev/payload: %s}}
spec: {ports: [{port: 80}]}
---
`, b.steps.url, payload)
	y.WriteString(sequence(c, "Always"))
	return y.String()
}

// sequence is the Sequence that a contender runs.
func sequence(c contender, shortCircuit string) string {
	names := []string{"sink"}
	switch {
	case c.reference:
		names = nil
		for i := range hopSteps {
			names = append(names, fmt.Sprint(i+1))
		}
	}
	if c.made {
		names = append([]string{"make"}, names...)
	}
	var y strings.Builder
	fmt.Fprintf(&y, `apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: bench}
spec:
  channelTemplate:
    apiVersion: messaging.sidestep.dev/v1alpha1
    kind: SidestepChannel
    spec: {shortCircuit: %s}
  steps:
`, shortCircuit)
	for _, name := range names {
		fmt.Fprintf(&y, "  - {ref: {apiVersion: v1, kind: Service, name: steps}, uri: /%s}\n", name)
	}
	return y.String()
}
