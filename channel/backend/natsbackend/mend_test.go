package natsbackend

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// runServer runs a bare server on dir while f uses it.
func runServer(t *testing.T, dir string, f func(jetstream.JetStream)) {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server does not become ready")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	f(js)
}

// filledFolder is the folder of a server with a stream, a record and a consumer. Its
// name is one that a pattern would match in another way.
func filledFolder(t *testing.T) (dir, stream string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "store [a*]")
	runServer(t, dir, func(js jetstream.JetStream) {
		config := jetstream.StreamConfig{Name: "s", Subjects: []string{"x"}, Retention: jetstream.InterestPolicy}
		s, err := js.CreateStream(t.Context(), config)
		if err == nil {
			_, err = s.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy})
		}
		if err == nil {
			_, err = js.Publish(t.Context(), "x", []byte("y"))
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	return dir, filepath.Join(dir, "jetstream", "$G", "streams", "s")
}

// wantWhole: a server finds the record, and the consumer has it still to come.
func wantWhole(t *testing.T, dir string) {
	t.Helper()
	runServer(t, dir, func(js jetstream.JetStream) {
		c, err := js.Consumer(t.Context(), "s", "c")
		if err != nil {
			t.Fatal(err)
		}
		if pending := c.CachedInfo().NumPending; pending != 1 {
			t.Errorf("%d records wait for the consumer, want 1", pending)
		}
	})
}

func mendOnce(t *testing.T, dir string) (log string, err error) {
	t.Helper()
	var b bytes.Buffer
	err = mendFiles(dir, slog.New(slog.NewTextHandler(&b, nil)))
	return b.String(), err
}

func TestMendFilesWritesTheChecksum(t *testing.T) {
	t.Parallel()
	for name, tear := range map[string]func(stream string) error{
		"of a stream, which is another's": func(s string) error {
			return os.WriteFile(filepath.Join(s, "meta.sum"), []byte("0123456789abcdef"), 0o600)
		},
		"of a stream, which is empty":        func(s string) error { return os.Truncate(filepath.Join(s, "meta.sum"), 0) },
		"of a stream, which is not there":    func(s string) error { return os.Remove(filepath.Join(s, "meta.sum")) },
		"of a consumer, which is not there":  func(s string) error { return os.Remove(filepath.Join(s, "obs", "c", "meta.sum")) },
		"in spite of what was half replaced": func(s string) error { return os.Rename(filepath.Join(s, "meta.sum"), filepath.Join(s, "meta.sum.tmp")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, stream := filledFolder(t)
			if err := tear(stream); err != nil {
				t.Fatal(err)
			}
			if log, err := mendOnce(t, dir); err != nil || !strings.Contains(log, stream) {
				t.Errorf("mendFiles: %v, and logs %q", err, log)
			}
			wantWhole(t, dir)
			if log, err := mendOnce(t, dir); err != nil || log != "" {
				t.Errorf("mendFiles again: %v, and logs %q", err, log)
			}
		})
	}
}

func TestMendFilesLeavesWholeFilesAlone(t *testing.T) {
	t.Parallel()
	if _, err := mendOnce(t, filepath.Join(t.TempDir(), "not there")); err != nil {
		t.Errorf("a folder that is not there: %v", err)
	}
	dir, stream := filledFolder(t)
	// A stream that is being made has no configuration yet; one that was deleted
	// is the server's to remove.
	for _, s := range []string{filepath.Join(filepath.Dir(stream), "new", "msgs"), filepath.Join(filepath.Dir(stream), ".old")} {
		if err := os.MkdirAll(s, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(stream), ".old", "meta.inf"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if log, err := mendOnce(t, dir); err != nil || log != "" {
		t.Errorf("mendFiles: %v, and logs %q", err, log)
	}
	wantWhole(t, dir)
}

func TestMendFilesRemovesAConsumerThatIsNotWhole(t *testing.T) {
	t.Parallel()
	dir, stream := filledFolder(t)
	consumer := filepath.Join(stream, "obs", "half")
	if err := os.Mkdir(consumer, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(consumer, "meta.inf"), []byte(`{"name":"half"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if log, err := mendOnce(t, dir); err != nil || !strings.Contains(log, consumer) {
		t.Errorf("mendFiles: %v, and logs %q", err, log)
	}
	if _, err := os.Stat(consumer); err == nil {
		t.Error("it is still there")
	}
	wantWhole(t, dir)
}

func TestMendFilesNamesAConfigurationThatIsDamaged(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{0, 20} {
		dir, stream := filledFolder(t)
		meta := filepath.Join(stream, "meta.inf")
		if err := os.Truncate(meta, size); err != nil {
			t.Fatal(err)
		}
		if _, err := mendOnce(t, dir); err == nil || !strings.Contains(err.Error(), meta+" is damaged") {
			t.Errorf("%d bytes left: %v", size, err)
		}
	}
}
