package natsbackend

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// The server replaces a stream's configuration and then its checksum. A kill in
// between must not cost the records that the stream has.
func TestAServerKilledAsItChangedAStreamKeepsItsRecords(t *testing.T) {
	t.Parallel()
	dir, s, b, e := serverWithLog(t)
	log := e.Name
	publish(t, b, log, "accepted")
	sum := filepath.Join(streamFiles(dir, b.names.shardStream(e.shard)), server.JetStreamMetaFileSum)
	before := readFile(t, sum)
	later := makeLogInShard(t, b, e.shard)
	if string(readFile(t, sum)) == string(before) {
		t.Fatal("the stream's configuration has not changed")
	}
	closeBackend(t, b)
	stopServer(t, s)
	if err := os.WriteFile(sum, before, 0o600); err != nil {
		t.Fatal(err)
	}

	b = connectTo(t, Config{Server: startServer(t, ServerConfig{Dir: dir})})
	if d := receive(t, subscribe(t, b, log, "g", backend.Options{})); string(d.Data) != "accepted" {
		t.Fatalf("received %q", d.Data)
	}
	publish(t, b, later, "to the log made last")
}

// A group whose consumer was half made when the server was killed is made again,
// to its end: the records published from then on are there after the next start.
func TestAServerKilledAsItMadeAConsumerLeavesNothingOfIt(t *testing.T) {
	t.Parallel()
	dir, s, b, e := serverWithLog(t)
	log := e.Name
	files := filepath.Join(streamFiles(dir, b.names.shardStream(e.shard)), "obs", consumer(e.Incarnation, "g"))
	closeBackend(t, b)
	stopServer(t, s)
	for _, f := range []string{server.JetStreamMetaFileSum, "o.dat"} {
		if err := os.Remove(filepath.Join(files, f)); err != nil {
			t.Fatal(err)
		}
	}

	s = startServer(t, ServerConfig{Dir: dir})
	b = connectTo(t, Config{Server: s})
	if err := b.EnsureGroup(ctxOf(t), log, backend.Group{Name: "g"}); err != nil {
		t.Fatal(err)
	}
	publish(t, b, log, "accepted")
	closeBackend(t, b)
	stopServer(t, s)
	b = connectTo(t, Config{Server: startServer(t, ServerConfig{Dir: dir})})
	if d := receive(t, subscribe(t, b, log, "g", backend.Options{})); string(d.Data) != "accepted" {
		t.Fatalf("received %q", d.Data)
	}
}

func TestAServerDoesNotStartWithoutAStreamThatItCannotRead(t *testing.T) {
	t.Parallel()
	dir, s, b, e := serverWithLog(t)
	meta := filepath.Join(streamFiles(dir, b.names.shardStream(e.shard)), server.JetStreamMetaFile)
	closeBackend(t, b)
	stopServer(t, s)
	if err := os.Truncate(meta, 20); err != nil {
		t.Fatal(err)
	}
	s, err := StartServer(ServerConfig{Dir: dir})
	if err == nil {
		stopServer(t, s)
		t.Fatal("it starts without the stream")
	}
	if !strings.Contains(err.Error(), meta) {
		t.Errorf("the error does not name the file: %v", err)
	}
}

// serverWithLog has one log, with the group g.
func serverWithLog(t *testing.T) (dir string, s *Server, b *Backend, e entry) {
	t.Helper()
	dir = t.TempDir()
	s = startServer(t, ServerConfig{Dir: dir})
	b = connectTo(t, Config{Server: s})
	e, err := b.catalog.read(ctxOf(t), makeLog(t, b, false, "g"))
	if err != nil {
		t.Fatal(err)
	}
	return dir, s, b, e
}

// streamFiles is the folder of a stream.
func streamFiles(dir, stream string) string {
	return filepath.Join(dir, server.JetStreamStoreDir, server.DEFAULT_GLOBAL_ACCOUNT, "streams", stream)
}

func readFile(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
