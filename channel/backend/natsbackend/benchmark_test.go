package natsbackend

import (
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/backendtest"
)

func BenchmarkEmbedded(b *testing.B) {
	backendtest.Benchmark(b, func(t testing.TB) backendtest.Harness {
		s := startServer(t, ServerConfig{})
		return backendtest.Harness{
			Connect: func(t testing.TB) backend.Backend { return connect(t, Config{Server: s}) },
			Facts:   backendtest.Facts{Dedup: true},
		}
	})
}

func BenchmarkExternal(b *testing.B) { backendtest.Benchmark(b, newExternal) }
