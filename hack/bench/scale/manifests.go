package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

const namespace = "scale"

// writeManifests writes n channels, each with a subscription to step.
func writeManifests(path string, n int, step string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	manifests(w, n, step)
	if err := w.Flush(); err != nil { // it keeps the first error
		f.Close()
		return fmt.Errorf("write manifests: %w", err)
	}
	return f.Close()
}

func manifests(w io.Writer, n int, step string) {
	for i := range n {
		fmt.Fprintf(w, `---
apiVersion: messaging.sidestep.dev/v1alpha1
kind: SidestepChannel
metadata: {name: c%[1]d, namespace: %[2]s}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: s%[1]d, namespace: %[2]s}
spec:
  channel: {apiVersion: messaging.sidestep.dev/v1alpha1, kind: SidestepChannel, name: c%[1]d}
  subscriber: {uri: %[3]q}
`, i, namespace, step)
	}
}
