package brokertest

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

	"github.com/sidestep-dev/sidestep/internal/freeport"
)

// What the child is told.
const (
	dirVariable     = "SIDESTEP_TEST_BROKER_DIR"
	portVariable    = "SIDESTEP_TEST_BROKER_PORT"
	clusterVariable = "SIDESTEP_TEST_BROKER_CLUSTER" // addresses for routes, ours first
)

// patience is how long a broker may take to read its store.
const patience = time.Minute

// IsBroker tells whether this process is meant to be a broker.
func IsBroker() bool { return os.Getenv(dirVariable) != "" }

// Serve is a broker until the process that started it closes stdin, by its
// death if nothing else. It returns the exit status.
func Serve() int {
	port, err := strconv.Atoi(os.Getenv(portVariable))
	if err != nil {
		fmt.Fprintln(os.Stderr, "broker:", err)
		return 2
	}
	o := &server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: os.Getenv(dirVariable),
		NoLog: true, NoSigs: true,
	}
	if routes := os.Getenv(clusterVariable); routes != "" {
		if err := joinCluster(o, strings.Split(routes, ",")); err != nil {
			fmt.Fprintln(os.Stderr, "broker:", err)
			return 2
		}
	}
	s, err := server.NewServer(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "broker:", err)
		return 1
	}
	s.Start()
	_, _ = os.Stdin.Read(make([]byte, 1))
	s.Shutdown()
	return 0
}

// Broker is a NATS server with JetStream, in files, in a process of its own.
type Broker struct {
	// Address is its host and port, the same after a restart.
	Address string

	dir    string
	routes string // of a cluster's node
	cmd    *exec.Cmd
}

// Start returns a broker that serves JetStream, on a folder of its own.
func Start(t testing.TB) *Broker {
	t.Helper()
	b := &Broker{dir: t.TempDir(), Address: FreeAddress(t)}
	b.start(t)
	t.Cleanup(b.Kill)
	return b
}

// start returns once it serves JetStream.
func (b *Broker) start(t testing.TB) {
	t.Helper()
	b.launch(t)
	b.await(t)
}

func (b *Broker) launch(t testing.TB) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(b.Address)
	b.cmd = exec.Command(program)
	b.cmd.Env = append(os.Environ(), dirVariable+"="+b.dir, portVariable+"="+port,
		clusterVariable+"="+b.routes)
	b.cmd.Stderr = os.Stderr
	b.cmd.SysProcAttr = childAttr()
	if _, err := b.cmd.StdinPipe(); err != nil { // open until we die
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (b *Broker) await(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := b.reachable()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the broker on %s does not come up: %v", b.Address, err)
		}
	}
}

// FreeAddress is one of the loopback interface on which nobody listens, and which nobody
// else is given: it stays free while its owner is dead.
func FreeAddress(t testing.TB) string {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// reachable: it has read its store and serves JetStream.
func (b *Broker) reachable() error {
	nc, err := nats.Connect("nats://"+b.Address, nats.NoReconnect())
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

// Kill ends it with SIGKILL.
func (b *Broker) Kill() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait()
}

// Restart kills it and starts it again on what it stored.
func (b *Broker) Restart(t testing.TB) {
	t.Helper()
	b.Kill()
	b.start(t)
}
