package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// The test binary is also the broker that tests kill: with this variable set to
// a folder, and the other to a port, it is a nats-server.
const (
	brokerDir  = "SIDESTEP_TEST_BROKER_DIR"
	brokerPort = "SIDESTEP_TEST_BROKER_PORT"
)

func isBroker() bool { return os.Getenv(brokerDir) != "" }

// serveBroker serves until the process that started it closes stdin, by its
// death if nothing else, and returns the exit status.
func serveBroker() int {
	port, err := strconv.Atoi(os.Getenv(brokerPort))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitUsage
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: os.Getenv(brokerDir), NoLog: true, NoSigs: true,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitError
	}
	s.Start()
	_, _ = os.Stdin.Read(make([]byte, 1))
	s.Shutdown()
	return exitOK
}

// broker is a nats-server in a process of its own.
type broker struct {
	dir, address string
	cmd          *exec.Cmd
}

func startBroker(t testing.TB) *broker {
	t.Helper()
	b := &broker{dir: t.TempDir(), address: freeAddress(t)}
	b.start(t)
	t.Cleanup(b.kill)
	return b
}

func (b *broker) start(t testing.TB) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(b.address)
	if err != nil {
		t.Fatal(err)
	}
	b.cmd = exec.Command(program)
	b.cmd.Env = append(os.Environ(), brokerDir+"="+b.dir, brokerPort+"="+port)
	b.cmd.Stderr = os.Stderr
	b.cmd.SysProcAttr = childAttr()
	if _, err := b.cmd.StdinPipe(); err != nil { // open until we die
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "the broker to serve JetStream", func() bool { return b.reachable() == nil })
}

// reachable: it has read its store and serves JetStream.
func (b *broker) reachable() error {
	nc, err := nats.Connect("nats://"+b.address, nats.NoReconnect())
	if err != nil {
		return err
	}
	defer nc.Close()
	m, err := nc.Request("$JS.API.INFO", nil, time.Second)
	if err == nil && strings.Contains(string(m.Data), `"error"`) {
		err = fmt.Errorf("JetStream: %s", m.Data)
	}
	return err
}

func (b *broker) kill() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait()
}

// TestKillingTheBrokerLosesNoAcceptedEvent: while the broker is dead ingress
// answers 503 with Retry-After; the dispatcher lives on.
func TestKillingTheBrokerLosesNoAcceptedEvent(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode string) {
		const events, clients = 3_000, 16
		b := startBroker(t)
		r := newTrial(t)
		yaml := sequenceYAML(mode, patient, r.steps[:]...) + `---
apiVersion: v1
kind: ConfigMap
metadata: {name: config-sidestep, namespace: knative-eventing}
data:
  backend: nats
  nats: "url: nats://` + b.address + `"
`
		r.begin(t, yaml, "", scaled(events, 10*events), clients)
		kills := scaled(5, 30)
		for _, at := range r.moments(kills, r.events*9/10) {
			await(t, "events to be accepted", func() bool { return t.Failed() || int(r.count.Load()) >= at })
			b.kill()
			// Some events are not accepted yet: they are refused from now on.
			refused := r.refused.Load()
			await(t, "ingress to refuse an event", func() bool { return r.refused.Load() > refused })
			accepted := r.count.Load()
			b.start(t)
			await(t, "ingress to accept again", func() bool { return r.count.Load() > accepted })
		}
		awaitAll(t, r.sender, r.end)
		r.alive(t)
		t.Logf("%s: %d kills of the broker, %d events, %d posts refused, %d duplicates so far at the last step",
			mode, kills, r.events, r.refused.Load(), r.end.duplicates())
		if n := r.broken.Load(); n > 0 {
			t.Errorf("%d posts got no answer, although the dispatcher lived", n)
		}
	})
}
