package channel_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
)

func TestADispatcherIsTunedWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPayloadWorld(t)
		defer w.stop()
		w.step("http://s0", func(r *egress.Request) egress.Result {
			time.Sleep(2 * time.Second)
			return passOn(0)(r)
		})
		w.step("http://s1", passOn(1))
		w.apply(sequence(2, channel.Always, nil)...)
		tune := func(tuning channel.Tuning) {
			t.Helper()
			if err := w.d.Tune(tuning); err != nil {
				t.Fatal(err)
			}
			w.publish("c0", ev("1"))
			w.sleep(10 * time.Second)
		}
		tune(channel.Tuning{})
		tune(channel.Tuning{CheckpointAfter: time.Minute})
		tune(channel.Tuning{CheckpointAfter: -1})
		if got, want := w.travels(), "stored stored stored short-circuited stored stored"; got != want {
			t.Errorf("events came %s, want %s", got, want)
		}

		tune(channel.Tuning{Threshold: 10, MaxEventBytes: 20, ByteBudget: 1 << 20})
		bad := []channel.Tuning{{Threshold: 1 << 40}, {Threshold: 30, MaxEventBytes: 20}}
		for _, b := range bad {
			b.ByteBudget = 7
			if err := w.d.Tune(b); err == nil {
				t.Errorf("%+v is taken", b)
			}
		}
		if at, most, budget := w.claims.Threshold(), w.claims.Limit(), w.d.Budget.Total(); at != 10 || most != 20 || budget != 1<<20 {
			t.Errorf("threshold %d, at most %d, budget %d; want 10, 20 and 1 MiB", at, most, budget)
		}
		synctest.Wait()
	})
}
