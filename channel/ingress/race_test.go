//go:build race

package ingress_test

// raceEnabled: the race detector allocates on its own account.
const raceEnabled = true
