// Package kafkatest gives tests a real Kafka broker: one for all tests of a
// binary, as it takes seconds to start, or one of their own.
//
//	SIDESTEP_KAFKA=host:port ---> that one, which is neither killed nor restarted
//	java and mvn are there   ---> a child of the test binary (package kafkabroker)
//	neither                  ---> the test is skipped, and says so
//
// TestMain ends with os.Exit(kafkatest.Run(m)), which also prints which broker it was.
package kafkatest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/internal/kafkabroker"
)

// Variable names the broker to use.
const Variable = "SIDESTEP_KAFKA"

// patience is how long a broker may take to start; the first time its jars have
// to be fetched.
const patience = 10 * time.Minute

var shared struct {
	once   sync.Once
	dir    string
	broker *kafkabroker.Broker
	err    error
	note   string
}

// Broker is one that a test may use, and hurt if it is ours.
type Broker struct {
	Address, SecureAddress string
	b                      *kafkabroker.Broker
}

// Run runs the tests, says which broker they used, and returns the exit status.
func Run(m *testing.M) int {
	status := m.Run()
	if shared.broker != nil {
		shared.broker.Kill()
		os.RemoveAll(shared.dir)
	}
	if shared.note != "" {
		fmt.Println("kafkatest: broker used:", shared.note)
	}
	return status
}

// Shared returns the broker of all tests.
func Shared(t testing.TB) *Broker {
	t.Helper()
	if address := os.Getenv(Variable); address != "" {
		shared.note = "the one at " + address + " (" + Variable + ")"
		return &Broker{Address: address}
	}
	if err := kafkabroker.Available(); err != nil {
		shared.note = "none but fakes: " + err.Error()
		t.Skipf("%v; %s=host:port would have the tests use another", err, Variable)
	}
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "sidestep-kafka-"); shared.err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		shared.broker, shared.err = kafkabroker.Start(ctx, kafkabroker.Options{Dir: shared.dir})
		shared.note = "Apache Kafka " + kafkabroker.Version + " (KRaft, one node), started for the tests"
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return &Broker{Address: shared.broker.Address, b: shared.broker}
}

// SharedRuns has goleak pass over the goroutine that waits for the shared broker.
func SharedRuns() goleak.Option {
	return goleak.IgnoreAnyFunction("github.com/sidestep-dev/sidestep/internal/kafkabroker.(*Broker).start.func1")
}

// Start returns a broker for one test.
func Start(t testing.TB, o kafkabroker.Options) *Broker {
	t.Helper()
	if err := kafkabroker.Available(); err != nil {
		t.Skip(err)
	}
	o.Dir = t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b, err := kafkabroker.Start(ctx, o)
	if b != nil {
		t.Cleanup(b.Kill)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &Broker{Address: b.Address, SecureAddress: b.SecureAddress, b: b}
}

// Ours: it may be killed.
func (b *Broker) Ours() bool { return b.b != nil }

// Kill ends it with SIGKILL.
func (b *Broker) Kill() { b.b.Kill() }

// Again starts it on what it stored.
func (b *Broker) Again(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.b.Again(ctx); err != nil {
		t.Fatal(err)
	}
}

// Restart kills it and starts it again.
func (b *Broker) Restart(t testing.TB) {
	t.Helper()
	b.Kill()
	b.Again(t)
}
