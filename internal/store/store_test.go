package store

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "correct horse battery"

func passwordFile(t *testing.T, content string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(f, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// start runs a store until the test ends, or stop is called.
func start(t *testing.T, c Config) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, c) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func connect(t *testing.T, address, password string) (*nats.Conn, error) {
	t.Helper()
	var err error
	for range 600 {
		var nc *nats.Conn
		if nc, err = nats.Connect("nats://"+address, nats.UserInfo("sidestep", password), nats.MaxReconnects(0)); err == nil {
			t.Cleanup(nc.Close)
			return nc, nil
		}
		if strings.Contains(err.Error(), "Authorization") {
			return nil, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, err
}

func TestOneServerIsAClusterAndKeepsWhatItConfirmed(t *testing.T) {
	c := Config{
		Dir: t.TempDir(), Name: "s-0", Listen: brokertest.FreeAddress(t), Cluster: brokertest.FreeAddress(t),
		User: "sidestep", PasswordFile: passwordFile(t, password+"\n"), SyncAlways: true,
	}
	c.Peers = []string{c.Cluster}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for round := range 2 {
		stop := start(t, c)
		js := streams(t, c)
		stream := makeStream(ctx, t, js, jetstream.StreamConfig{Name: "x", Subjects: []string{"x"}})
		info, err := stream.Info(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if info.Cluster == nil || info.Cluster.Name != clusterName {
			t.Errorf("the stream is not of a cluster: %+v", info.Cluster)
		}
		if info.State.Msgs != uint64(round) { //nolint:gosec // 0 or 1
			t.Errorf("round %d begins with %d records", round, info.State.Msgs)
		}
		if _, err := js.Publish(ctx, "x", []byte("y")); err != nil {
			t.Fatal(err)
		}
		js.Conn().Close()
		stop()
	}
}

// A store that is killed between a stream's configuration and its checksum keeps
// what the stream holds: the log of its cluster says that there is a stream.
func TestAStoreKilledAsItChangedAStreamKeepsItsRecords(t *testing.T) {
	c := Config{
		Dir: t.TempDir(), Name: "s-0", Listen: brokertest.FreeAddress(t), Cluster: brokertest.FreeAddress(t),
		User: "sidestep", PasswordFile: passwordFile(t, password),
	}
	sum := filepath.Join(c.Dir, "jetstream", "$G", "streams", "x", "meta.sum")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	stop := start(t, c)
	js := streams(t, c)
	config := jetstream.StreamConfig{Name: "x", Subjects: []string{"x"}, Retention: jetstream.InterestPolicy}
	s := makeStream(ctx, t, js, config)
	if _, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "x", []byte("y")); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(sum)
	if err != nil {
		t.Fatal(err)
	}
	config.Subjects = append(config.Subjects, "z")
	if _, err := js.UpdateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
	js.Conn().Close()
	stop()
	if err := os.WriteFile(sum, before, 0o600); err != nil {
		t.Fatal(err)
	}

	start(t, c)
	js = streams(t, c)
	defer js.Conn().Close()
	makeStream(ctx, t, js, config) // once there is a leader
	consumer, err := js.Consumer(ctx, "x", "c")
	if err != nil {
		t.Fatal(err)
	}
	m, err := consumer.Next(jetstream.FetchMaxWait(20 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if string(m.Data()) != "y" {
		t.Errorf("received %q", m.Data())
	}
}

func streams(t *testing.T, c Config) jetstream.JetStream {
	t.Helper()
	nc, err := connect(t, c.Listen, password)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// makeStream makes it unless it is there. Its leader has to be elected first, and
// without a leader there is no answer.
func makeStream(ctx context.Context, t *testing.T, js jetstream.JetStream, config jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		s, err := js.CreateStream(try, config)
		cancel()
		if err == nil {
			return s
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestNobodyIsServedWithoutThePassword(t *testing.T) {
	c := Config{
		Dir: t.TempDir(), Name: "s-0", Listen: brokertest.FreeAddress(t), Cluster: brokertest.FreeAddress(t),
		User: "sidestep", PasswordFile: passwordFile(t, password),
	}
	start(t, c)
	if _, err := connect(t, c.Listen, password); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, c.Listen, "wrong horse battery"); err == nil {
		t.Error("a wrong password is let in")
	}
}

func TestAStoreSaysWhatItWants(t *testing.T) {
	good := func() Config {
		return Config{
			Dir: t.TempDir(), Name: "s-0", Listen: "127.0.0.1:4222", Cluster: "127.0.0.1:6222",
			User: "sidestep", PasswordFile: passwordFile(t, password),
		}
	}
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no folder", func(c *Config) { c.Dir = "" }, "want a folder"},
		{"no port", func(c *Config) { c.Listen = "127.0.0.1" }, "want host:port"},
		{"bad peer", func(c *Config) { c.Peers = []string{"y:6222", "x:99999"} }, "want a port from 1 to 65535"},
		{"short password", func(c *Config) { c.PasswordFile = passwordFile(t, "short") }, "has 5 bytes: want 16"},
		{"no password", func(c *Config) { c.PasswordFile = "/nonexistent" }, "read password"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := good()
			tt.change(&c)
			if err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
