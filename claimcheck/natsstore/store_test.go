package natsstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/natsstore"
	"github.com/sidestep-dev/sidestep/claimcheck/storetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func startServer(t *testing.T) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

func connect(t *testing.T, s *server.Server) *nats.Conn {
	t.Helper()
	conn, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

func open(t *testing.T, conn *nats.Conn, c natsstore.Config) claimcheck.Store {
	t.Helper()
	s, err := natsstore.Open(t.Context(), conn, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	srv := startServer(t)
	conn := connect(t, srv)
	var buckets atomic.Int64
	var bucket string // that was opened last
	storetest.Run(t, storetest.Harness{
		Open: func(t *testing.T) claimcheck.Store {
			bucket = fmt.Sprintf("claims-%d", buckets.Add(1))
			return open(t, conn, natsstore.Config{Bucket: bucket})
		},
		Down: func(t *testing.T) claimcheck.Store {
			other := startServer(t)
			s := open(t, connect(t, other), natsstore.Config{Bucket: "claims", Timeout: time.Second})
			other.Shutdown()
			other.WaitForShutdown()
			return s
		},
		Interrupt: func(t *testing.T, _ claimcheck.Store, _ string) {
			// A chunk without an entry. The answer is the stream's, when it has it.
			if _, err := conn.RequestWithContext(t.Context(), "$O."+bucket+".C.TORN", []byte("torn")); err != nil {
				t.Fatal(err)
			}
		},
	})
}

func TestAFullBucketIsErrFullAndLeavesNothing(t *testing.T) {
	conn := connect(t, startServer(t))
	s := open(t, conn, natsstore.Config{Bucket: "small", MaxBytes: 4 << 20})
	defer s.Close()
	for range 3 {
		if err := s.Put(t.Context(), "large", bytes.NewReader(make([]byte, 8<<20))); !errors.Is(err, claimcheck.ErrFull) {
			t.Errorf("got %v, want ErrFull", err)
		}
		if err := s.Put(t.Context(), "fits", bytes.NewReader(make([]byte, 2<<20))); err != nil {
			t.Errorf("what fits: %v", err)
		}
		if err := s.Delete(t.Context(), "fits"); err != nil {
			t.Error(err)
		}
	}
	for o, err := range s.List(t.Context(), "") {
		t.Errorf("left: %+v, %v", o, err)
	}
}

// What we write is an object store's object, that other tools can read, and the
// other way round.
func TestObjectsAreThoseOfTheClientLibrary(t *testing.T) {
	conn := connect(t, startServer(t))
	s := open(t, conn, natsstore.Config{Bucket: "claims"})
	defer s.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := js.ObjectStore(t.Context(), "claims")
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 50_000)
	if err := s.Put(t.Context(), "ours", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if got, err := objects.GetBytes(t.Context(), "ours"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("ours, read by the library: %d bytes of %d, %v", len(got), len(data), err)
	}
	if _, err := objects.PutBytes(t.Context(), "theirs", data); err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(t.Context(), "theirs", 300_000, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[300_000:]) {
		t.Errorf("the library's, read by us: %d bytes, %v", len(got), err)
	}
}
