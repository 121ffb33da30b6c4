package kafkabackend

import (
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/backendtest"
)

// BenchmarkBroker has no proxy between the backend and the broker.
func BenchmarkBroker(b *testing.B) {
	backendtest.Benchmark(b, func(t testing.TB) backendtest.Harness {
		address := sharedBroker(t).Address
		return backendtest.Harness{Connect: func(t testing.TB) backend.Backend {
			return connect(t, Config{Brokers: []string{address}, Prefix: newPrefix()})
		}}
	})
}
