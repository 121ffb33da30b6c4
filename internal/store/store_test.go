package store

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "correct horse battery"

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

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
		Dir: t.TempDir(), Name: "s-0", Listen: free(t), Cluster: free(t),
		User: "sidestep", PasswordFile: passwordFile(t, password+"\n"), SyncAlways: true,
	}
	c.Peers = []string{c.Cluster}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for round := range 2 {
		stop := start(t, c)
		nc, err := connect(t, c.Listen, password)
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		var stream jetstream.Stream
		for { // its leader has to be elected first
			// Without a leader there is no answer.
			try, cancel := context.WithTimeout(ctx, time.Second)
			stream, err = js.CreateStream(try, jetstream.StreamConfig{Name: "x", Subjects: []string{"x"}})
			cancel()
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
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
		nc.Close()
		stop()
	}
}

func TestNobodyIsServedWithoutThePassword(t *testing.T) {
	c := Config{
		Dir: t.TempDir(), Name: "s-0", Listen: free(t), Cluster: free(t),
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
