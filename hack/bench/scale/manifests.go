package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

// The namespaces of the channels that are measured, and of those few that they are
// compared with.
const (
	namespace    = "scale"
	fewNamespace = "few"
)

// steps of each Sequence: as many channels.
const steps = 5

// writeManifests writes Sequences of a namespace with n channels together, all of whose
// steps are one, and config-sidestep.
func writeManifests(path, namespace string, n int, step, config string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	fmt.Fprintf(w, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-sidestep}\ndata:\n%s", config)
	manifests(w, namespace, n, step)
	if err := w.Flush(); err != nil { // it keeps the first error
		f.Close()
		return fmt.Errorf("write manifests: %w", err)
	}
	return f.Close()
}

func manifests(w io.Writer, namespace string, n int, step string) {
	for i := range n / steps {
		fmt.Fprintf(w, `---
apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: s%d, namespace: %s}
spec:
  channelTemplate: {apiVersion: messaging.sidestep.dev/v1alpha1, kind: SidestepChannel}
  steps:
`, i, namespace)
		for range steps {
			fmt.Fprintf(w, "  - {uri: %q}\n", step)
		}
	}
}

// channelURLs are those of all channels, at the dispatchers with these addresses by turns.
func channelURLs(namespace string, n int, bases ...string) []string {
	urls := make([]string, n)
	for i := range urls {
		urls[i] = fmt.Sprintf("%s/%s/s%d-kn-sequence-%d", bases[i%len(bases)], namespace, i/steps, i%steps)
	}
	return urls
}
