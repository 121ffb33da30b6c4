// Package pod puts a sidecar beside steps, as a process of its own.
package pod

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
)

// Pod is a sidecar, and what a dispatcher must know of it.
type Pod struct {
	*process.Child
	// Key is the file of the key that signs slips: --slip-key of the dispatcher.
	Key string
	// Documents declare the Service "steps" and the pod.
	Documents string
}

// Start starts the sidecar binary beside the steps at base, a URL. dir is for its keys;
// args are more of its arguments, and annotations of the Service more of those.
func Start(ctx context.Context, binary, dir, base, annotations string, args ...string) (*Pod, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("where the steps are: %w", err)
	}
	p := &Pod{Key: filepath.Join(dir, "slip.pem")}
	if err := writeKeys(p.Key); err != nil {
		return nil, err
	}
	p.Child, err = process.Start(ctx, process.Command{
		Name: "the sidecar", Path: binary,
		Args: append([]string{"--listen", "127.0.0.1:0", "--allow", u.Port(), "--trust-keys", p.Key + ".pub"}, args...),
	})
	if err != nil {
		return nil, err
	}
	p.Documents = fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: steps, namespace: default, annotations: {sidestep.dev/address: %q%s}}
spec: {ports: [{port: 80}]}
---
apiVersion: sidestep.dev/v1alpha1
kind: LocalPod
metadata: {name: pod, namespace: default}
spec:
  sidecar: %s
  steps: [{service: steps, port: %s}]
`, base, annotations, p.URL, u.Port())
	return p, nil
}

// writeKeys makes what the dispatcher signs with, and what the sidecar trusts.
func writeKeys(file string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	pub, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	for _, f := range []struct {
		name, kind string
		der        []byte
	}{{file, "PRIVATE KEY", der}, {file + ".pub", "PUBLIC KEY", pub}} {
		if err := os.WriteFile(f.name, pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der}), 0o600); err != nil {
			return fmt.Errorf("make keys: %w", err)
		}
	}
	return nil
}
