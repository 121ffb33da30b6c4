package standalone

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// Two processes with the same files share the groups of a broker: each event is
// delivered by one of them, and all by the one that is left.
func TestProcessesWithAKeyInCommonShareABroker(t *testing.T) {
	t.Parallel()
	n := startServer(t, server.Options{})
	s := newSite(t)
	s.write("a.yaml", sequenceYAML("seq", "Never", s.step("a"), s.step("b")))
	s.write("config.yaml", fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-sidestep}\ndata:\n"+
		"  backend: nats\n  nats: |\n    url: nats://%s\n", n.Addr()))
	key := filepath.Join(t.TempDir(), "key")
	with := func(c *Config) { c.Key = key }
	one := s.start(with)
	two := s.start(with, func(c *Config) { c.Data = filepath.Join(t.TempDir(), "other") })
	const path = "/default/seq-kn-sequence-0"
	var ids []string
	for i := range 20 {
		ids = append(ids, fmt.Sprint(i))
		[]*running{one, two}[i%2].accept(path, ids[i])
	}
	s.wantDelivered("b", ids...)
	for _, step := range []string{"a", "b"} {
		for id, times := range s.got(step) {
			if times != 1 {
				t.Errorf("event %s came %d times to step %s: the processes have groups of their own", id, times, step)
			}
		}
	}
	one.stop()
	if err := one.end(); err != nil {
		t.Fatal(err)
	}
	two.accept(path, "left")
	s.wantDelivered("b", "left")
}

func TestAKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	var keys [8][]byte
	var making sync.WaitGroup
	for i := range keys {
		making.Go(func() {
			var err error
			if keys[i], err = sharedKey(file); err != nil {
				t.Error(err)
			}
		})
	}
	making.Wait()
	for _, k := range keys {
		if len(k) != keyBytes || !bytes.Equal(k, keys[0]) {
			t.Errorf("one has the key %x, another %x", k, keys[0])
		}
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("%v, %v is left beside the key", left, err)
	}
	if err := os.WriteFile(file, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sharedKey(file); err == nil {
		t.Error("a key of five characters is taken")
	}
}
