package kafkabackend

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/backendtest"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

// Whatever the connections go through: nothing is lost, the order is kept, and all
// goes on afterwards.
func TestTroubledConnectionsLoseNoRecord(t *testing.T) {
	t.Parallel()
	address := sharedBroker(t).Address
	for _, ordered := range []bool{false, true} {
		t.Run(fmt.Sprint("ordered ", ordered), func(t *testing.T) {
			t.Parallel()
			p := brokertest.StartProxy(t, address)
			b := connectTo(t, Config{Brokers: []string{address}, Dial: through(p), Partitions: 2})
			probe := makeLog(t, b, false)
			l := backendtest.StartLoad(t, b, ordered)
			for _, trouble := range brokertest.Troubles() {
				l.GoesOn(t, 20)
				p.Poison(trouble.Kind, trouble.Attributes)
				if trouble.Breaks {
					eventually(t, trouble.Kind, func() error {
						ctx, cancel := context.WithTimeout(t.Context(), time.Second)
						defer cancel()
						if b.Publish(ctx, probe, &backend.Record{}) == nil {
							return errors.New("records still pass")
						}
						return nil
					})
				} else {
					l.GoesOn(t, 10)
				}
				p.Clear()
				l.GoesOn(t, 10)
			}
			l.Finish(t)
		})
	}
}
