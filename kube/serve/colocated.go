package serve

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/sidestep-dev/sidestep/internal/replica"
	"github.com/sidestep-dev/sidestep/internal/slipkey"
	"github.com/sidestep-dev/sidestep/kube/pods"
)

// slipKeyPoll is how often the file of the key for slips is looked at. A kubelet takes
// a minute or two to renew it.
const slipKeyPoll = 5 * time.Second

// colocation is what is known of steps that share a pod.
type colocation struct {
	keyFile string
	content []byte // of it
	found   atomic.Pointer[pods.Found]
}

// key reads the key that slips are signed with; without a file there is none, and no
// chain runs in a pod.
func (c *colocation) key() (ed25519.PrivateKey, error) {
	if c.keyFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(c.keyFile)
	if err != nil {
		return nil, fmt.Errorf("read slip key: %w", err)
	}
	key, err := slipkey.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("read slip key %s: %w", c.keyFile, err)
	}
	c.content = b
	return key, nil
}

// byReference is watch.Options.ByReference.
func (c *colocation) byReference(url string) bool { return c.found.Load().ByReference(url) }

// watcher finds who shares a pod with whom, and has a replica go by it. changed is
// called when somebody wants payloads in another way than before.
func (p *process) podsWatcher(r *replica.Replica, changed func()) *pods.Watcher {
	return &pods.Watcher{
		Cache: p.cache, ClusterDomain: p.ClusterDomain, Self: p.Namespace + "/" + p.Pod, Logger: p.Logger,
		Apply: func(f *pods.Found) error {
			if err := r.SetPods(f.Map); err != nil {
				return err
			}
			if was := p.colocation.found.Swap(f); !f.SameReferences(was) {
				changed()
			}
			return nil
		},
	}
}

// renewSlipKey has a replica sign with what the file holds, until ctx ends.
func (p *process) renewSlipKey(ctx context.Context, r *replica.Replica) {
	c := &p.colocation
	if c.keyFile == "" {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(slipKeyPoll):
		}
		was := c.content
		key, err := c.key()
		if err == nil && !bytes.Equal(was, c.content) {
			err = r.SetSlipKey(key)
			p.Logger.Info("slips are signed with another key")
		}
		if err != nil {
			p.Logger.Error("the key for slips cannot be used; going on with the one before", "error", err)
		}
	}
}
