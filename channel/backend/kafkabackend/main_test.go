package kafkabackend

import (
	"os"
	"testing"

	"github.com/sidestep-dev/sidestep/internal/brokertest/kafkatest"
)

func TestMain(m *testing.M) { os.Exit(kafkatest.Run(m)) }
