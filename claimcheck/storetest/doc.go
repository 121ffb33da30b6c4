// Package storetest is what every claimcheck.Store must do, as a test suite.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, storetest.Harness{Open: func(t *testing.T) claimcheck.Store { ... }})
//	}
//
//	Harness --> an empty store --> Run --> one subtest per promise of claimcheck.Store
package storetest
