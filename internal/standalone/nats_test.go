package standalone

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// The secrets of an external server are files that config-sidestep names.
func TestFlowsRunOnAServerThatAsksWhoWeAre(t *testing.T) {
	t.Parallel()
	const password = "s3cret-of-the-test"
	n := startServer(t, server.Options{Username: "sidestep", Password: password})
	file := filepath.Join(t.TempDir(), "password")
	s := newSite(t)
	s.write("a.yaml", sequenceYAML("seq", "Never", s.step("a"), s.step("b")))
	s.write("config.yaml", fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-sidestep}\ndata:\n"+
		"  backend: nats\n  nats: |\n    url: nats://%s\n    user: sidestep\n    passwordFile: %s\n", n.Addr(), file))

	if err := os.WriteFile(file, []byte("another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.begin()
	err := r.end()
	if err == nil || !strings.Contains(err.Error(), "Authorization Violation") || strings.Contains(err.Error(), "another") {
		t.Fatalf("with a wrong password it ended with %v", err)
	}
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r = s.start()
	r.accept("/default/seq-kn-sequence-0", "1")
	s.wantDelivered("b", "1")
	if strings.Contains(r.logs.String(), password) {
		t.Error("the log holds the password")
	}
}

// startServer starts an external server with JetStream, in this process.
func startServer(t *testing.T, o server.Options) *server.Server {
	t.Helper()
	o.Host, o.Port, o.JetStream, o.StoreDir, o.NoLog, o.NoSigs = "127.0.0.1", -1, true, t.TempDir(), true, true
	n, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	t.Cleanup(func() {
		n.Shutdown()
		n.WaitForShutdown()
	})
	if !n.ReadyForConnections(patience) {
		t.Fatal("nats-server is not ready")
	}
	return n
}
