package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

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
}

const (
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

func choose(only string) ([]contender, error) {
	all := contenders()
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
	dir   string
}

func (r *running) stop() {
	r.Stop()
	if r.store != nil {
		r.store.Stop()
	}
	os.RemoveAll(r.dir)
}

// start starts a contender with fresh folders.
func (b *bench) start(ctx context.Context, c contender) (*running, error) {
	dir, err := os.MkdirTemp(b.dir, c.name+"-")
	if err != nil {
		return nil, err
	}
	r := &running{dir: dir}
	if c.name == bareRelay {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		r.Child, err = process.Start(ctx, process.Command{
			Name: c.name, Path: self, Args: []string{childArg, "-to", b.steps.url + "/sink", "-dir", dir},
		})
		return r, err
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
	r.Child, err = process.Start(ctx, process.Command{
		Name: c.name, Path: b.path("dispatcher"),
		Args: []string{
			"standalone", "-f", file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
			"--data", filepath.Join(dir, "data"), "--output", "json",
		},
		Accept: func(r process.Ready) bool { return r.Kind == "Sequence" },
	})
	if err != nil && r.store != nil {
		r.store.Stop()
	}
	return r, err
}

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
	payload, names := "value", []string{"sink"}
	if c.reference {
		payload, names = "reference", nil
		for i := range hopSteps {
			names = append(names, fmt.Sprint(i+1))
		}
	}
	fmt.Fprintf(&y, `apiVersion: v1
kind: Service
metadata: {name: steps, annotations: {sidestep.dev/address: %q, sidestep.dev/payload: %s}}
spec: {ports: [{port: 80}]}
---
apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: bench}
spec:
  channelTemplate:
    apiVersion: messaging.sidestep.dev/v1alpha1
    kind: SidestepChannel
    spec: {shortCircuit: Always}
  steps:
`, b.steps.url, payload)
	for _, name := range names {
		fmt.Fprintf(&y, "  - {ref: {apiVersion: v1, kind: Service, name: steps}, uri: /%s}\n", name)
	}
	return y.String()
}
