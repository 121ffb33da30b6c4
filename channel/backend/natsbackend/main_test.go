package natsbackend

import (
	"fmt"
	"os"
	"testing"

	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

// TestMain also makes the test binary the broker that tests kill, and a process
// that holds records.
func TestMain(m *testing.M) {
	if brokertest.IsBroker() {
		os.Exit(brokertest.Serve())
	}
	if url := os.Getenv(holderURL); url != "" {
		if err := hold(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}
