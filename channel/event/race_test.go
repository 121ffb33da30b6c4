//go:build race

package event

// raceEnabled: the race detector allocates on its own account.
const raceEnabled = true
