package kafkabroker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/sidestep-dev/sidestep/internal/freeport"
)

// Options of a broker. The zero value is one without authentication.
type Options struct {
	// Dir holds what the broker stores. It must exist and be empty, or hold
	// what an earlier broker with the same addresses stored.
	Dir string
	// Secure adds a listener with TLS and SASL (PLAIN, SCRAM-SHA-256,
	// SCRAM-SHA-512) on SecureAddress; see Secure.
	Secure *Secure
	// Detached brokers outlive the process that started them.
	Detached bool
	// Properties are added to the broker's configuration.
	Properties map[string]string
}

// Broker is a process of its own.
type Broker struct {
	// Address is where it listens without authentication; the same after a
	// restart. SecureAddress is the other listener's.
	Address, SecureAddress string

	dir        string
	classpath  string
	properties string
	detached   bool

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start returns when the broker answers. ctx bounds only that.
func Start(ctx context.Context, o Options) (*Broker, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	folder, err := jars(ctx)
	if err != nil {
		return nil, err
	}
	b := &Broker{dir: o.Dir, classpath: filepath.Join(folder, "*"), detached: o.Detached}
	var addresses [3]string
	for i := range addresses {
		if addresses[i], err = freeport.Address(); err != nil {
			return nil, err
		}
	}
	b.Address = addresses[0]
	if o.Secure != nil {
		b.SecureAddress = addresses[2]
	}
	b.properties = filepath.Join(o.Dir, "server.properties")
	text := properties(b, addresses[1], o)
	if err := os.WriteFile(b.properties, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if err := b.format(ctx, o); err != nil {
		return nil, err
	}
	return b, b.start(ctx)
}

// clusterID is any; all brokers of this package have the same, as none ever
// meets another.
const clusterID = "c2lkZXN0ZXAta2Fma2EtMA"

func (b *Broker) format(ctx context.Context, o Options) error {
	args := []string{"format", "-t", clusterID, "-c", b.properties, "--ignore-formatted"}
	if o.Secure != nil {
		args = append(args, o.Secure.scram()...)
	}
	cmd := exec.CommandContext(ctx, "java", b.java("-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "kafka.tools.StorageTool")...)
	cmd.Args = append(cmd.Args, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("format the broker's folder: %w\n%s", err, out)
	}
	return nil
}

func (b *Broker) java(args ...string) []string {
	return append([]string{"-cp", b.classpath, "-Dlog4j2.level=WARN", "-Dlog4j2.disable.jmx=true"}, args...)
}

// Log is the file with what the broker says.
func (b *Broker) Log() string { return filepath.Join(b.dir, "broker.log") }

// Pid of the broker's process.
func (b *Broker) Pid() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cmd.Process.Pid
}

func (b *Broker) start(ctx context.Context) error {
	log, err := os.OpenFile(b.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("java", b.java("-Xms128m", "-Xmx768m", "-XX:+UseSerialGC", "kafka.Kafka", b.properties)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttr(b.detached)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	done := make(chan struct{})
	b.mu.Lock()
	b.cmd, b.done = cmd, done
	b.mu.Unlock()
	go func() {
		defer close(done)
		b.err = cmd.Wait()
	}()
	return b.awaitUp(ctx)
}

// awaitUp returns when the broker takes part in its cluster.
func (b *Broker) awaitUp(ctx context.Context) error {
	for {
		err := ready(ctx, b.Address)
		if err == nil {
			return nil
		}
		select {
		case <-b.done:
			text, _ := os.ReadFile(b.Log())
			return fmt.Errorf("the broker ended: %w\n%s", errors.Join(b.err, err), tail(text))
		case <-ctx.Done():
			return fmt.Errorf("the broker on %s does not come up: %w", b.Address, errors.Join(ctx.Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func tail(text []byte) []byte { return text[max(0, len(text)-4000):] }

// Kill ends it with SIGKILL.
func (b *Broker) Kill() {
	b.mu.Lock()
	cmd, done := b.cmd, b.done
	b.mu.Unlock()
	_ = cmd.Process.Kill()
	<-done
}

// Again starts it on what it stored, after Kill.
func (b *Broker) Again(ctx context.Context) error { return b.start(ctx) }
