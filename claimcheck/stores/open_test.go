package stores_test

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/stores"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBadURLsAreRefusedWithAReason(t *testing.T) {
	t.Parallel()
	for rawURL, reason := range map[string]string{
		"":                                      `scheme "" is none of`,
		"/var/claims":                           `scheme "" is none of`,
		"ftp://x":                               "file, mem, nats, s3",
		"file:claims":                           "must be followed by //",
		"file://claims/x":                       "file:///claims/x",
		"file://":                               "without a folder",
		"file:///":                              "without a folder",
		"file:///a/../b":                        `want "/b"`,
		"file:///a?x=1":                         `parameter "x"`,
		"mem://x":                               "neither a host nor a path",
		"s3://":                                 "without a bucket",
		"s3://bucket/key":                       "a bucket is used whole",
		"s3://bucket?endpoint=minio":            "https://host:port",
		"s3://bucket?endpoint=":                 "is empty",
		"s3://bucket?endpont=http://":           "credentials-file, endpoint, part-size, profile, region",
		"s3://bucket?region=a&region=b":         "2 times",
		"s3://bucket?part-size=big":             "number of bytes",
		"s3://key:secret@bucket":                "must not hold credentials",
		"s3://bucket?endpoint=http://k:s@minio": "https://host:port",
		"s3://-bucket":                          "is not a name",
		"nats://claims?replicas=9":              "between 1 and 5",
		"nats://claims?url=localhost":           "nats://host:port",
		"nats://claims?url=nats://user:secret@server": "credentials-file",
		"s3://bu\x7fcket": "invalid control character",
	} {
		err := stores.Check(rawURL)
		if !errors.Is(err, stores.ErrURL) || !strings.Contains(err.Error(), reason) {
			t.Errorf("check %q: got %v, want ErrURL with %q", rawURL, err, reason)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("check %q tells the secret: %v", rawURL, err)
		}
		if s, err := stores.Open(t.Context(), rawURL, stores.Options{}); !errors.Is(err, stores.ErrURL) {
			t.Errorf("open %q: got %v, %v, want ErrURL", rawURL, s, err)
		}
	}
}

func TestTheIDIsThatOfThePlace(t *testing.T) {
	t.Parallel()
	id := func(rawURL string) string {
		t.Helper()
		id, err := stores.ID(rawURL)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	for _, same := range [][2]string{
		{"file:///a/b", "file:///a/b/"},
		{"s3://bucket?region=x", "s3://bucket?region=x&profile=p&part-size=9000000"},
		{"s3://bucket?region=x&endpoint=http://h", "s3://bucket?endpoint=http://h&region=x"},
	} {
		if id(same[0]) != id(same[1]) {
			t.Errorf("%q and %q are one place", same[0], same[1])
		}
	}
	seen := map[string]string{}
	for _, rawURL := range []string{
		"file:///a/b", "file:///a", "mem://", "s3://bucket", "s3://bucket2", "nats://bucket",
		"s3://bucket?endpoint=http://h", "s3://bucket?region=h", "nats://bucket?url=nats://h",
	} {
		if other, twice := seen[id(rawURL)]; twice {
			t.Errorf("%q and %q have one id", rawURL, other)
		}
		if len(id(rawURL)) > claimcheck.MaxStoreID {
			t.Errorf("id %q is too long", id(rawURL))
		}
		seen[id(rawURL)] = rawURL
	}
}

func TestEachKindOpens(t *testing.T) {
	srv := natsServer(t)
	conn, err := nats.Connect(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	for _, rawURL := range []string{
		"mem://",
		"file://" + filepath.Join(t.TempDir(), "claims"),
		"nats://claims?max-bytes=10000000",
		"nats://claims?url=" + srv.ClientURL(),
	} {
		s, err := stores.Open(t.Context(), rawURL, stores.Options{NATS: conn})
		if err != nil {
			t.Errorf("open %q: %v", rawURL, err)
			continue
		}
		if err := s.Put(t.Context(), "x", strings.NewReader("hello")); err != nil {
			t.Errorf("put in %q: %v", rawURL, err)
		} else if r, err := s.Open(t.Context(), "x", 1, 3); err != nil {
			t.Errorf("open in %q: %v", rawURL, err)
		} else if b, err := io.ReadAll(r); string(b) != "ell" || err != nil || r.Close() != nil {
			t.Errorf("read from %q: %q, %v", rawURL, b, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close %q: %v", rawURL, err)
		}
	}
	if _, err := stores.Open(t.Context(), "nats://claims", stores.Options{}); !errors.Is(err, stores.ErrURL) {
		t.Errorf("nats without a connection: got %v, want ErrURL", err)
	}
	if _, err := stores.Open(t.Context(), "nats://claims?url=nats://127.0.0.1:1", stores.Options{}); !errors.Is(err, claimcheck.ErrUnavailable) {
		t.Errorf("nats without a server: got %v, want ErrUnavailable", err)
	}
}

func natsServer(t *testing.T) *server.Server {
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
