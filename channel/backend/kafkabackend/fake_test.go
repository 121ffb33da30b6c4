package kafkabackend

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	_ "github.com/twmb/franz-go/pkg/kgo" // kfake needs a later one than its go.mod says

	"github.com/sidestep-dev/sidestep/channel/backend/backendtest"
)

// startFake starts a broker in this process that ends with the test.
func startFake(t testing.TB) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestFake runs the suite on kfake: faster than a real broker, and a fake.
func TestFake(t *testing.T) {
	backendtest.Run(t, func(t testing.TB) backendtest.Harness {
		return newHarness(startFake(t).ListenAddrs()[0])
	})
}
