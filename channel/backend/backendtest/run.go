package backendtest

import (
	"slices"
	"testing"

	"go.uber.org/goleak"
)

// property is one thing that a backend must or must not do; name says which.
type property struct {
	name string
	run  func(*fixture)
}

// together lists the properties that leave the broker unharmed.
func together() []property {
	return slices.Concat(
		byteProperties, dedupProperties, publishProperties, groupProperties, settleProperties,
		receiveProperties, restProperties, orderProperties, adminProperties, nameProperties, sealProperties,
		closeProperties, connectionProperties, modelProperties,
	)
}

// Run tests a backend against the contract. newHarness is called several
// times, with the test that the broker is to live as long as. Run must not be
// called while other tests run: in the end it looks for goroutines left.
func Run(t *testing.T, newHarness func(t testing.TB) Harness) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	var leaks []goleak.Option

	t.Run("together", func(t *testing.T) {
		h := newHarness(t)
		leaks = h.Facts.Leaks
		for _, p := range together() {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				p.run(newFixture(t, h))
			})
		}
	})
	t.Run("alone", func(t *testing.T) {
		for _, p := range restartProperties {
			t.Run(p.name, func(t *testing.T) { p.run(newFixture(t, newHarness(t))) })
		}
	})
	if !t.Failed() { // else what is left is a consequence
		t.Run("no goroutine is left", func(t *testing.T) {
			goleak.VerifyNone(t, append(slices.Clone(leaks), before)...)
		})
	}
}
