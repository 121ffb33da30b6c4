package standalone

import (
	"runtime/debug"
	"testing"
)

// percent is GOGC as it is now.
func percent() int {
	now := debug.SetGCPercent(-1)
	debug.SetGCPercent(now)
	return now
}

func TestAStartLeavesTheCollectorAsItWas(t *testing.T) {
	for _, usual := range []int{100, 300, startPercent - 5, -1} {
		restore := debug.SetGCPercent(usual)
		one, two := collectOften(), collectOften()
		want := startPercent
		if usual < startPercent { // also "never"
			want = usual
		}
		if got := percent(); got != want {
			t.Errorf("GOGC is %d during a start, want %d", got, want)
		}
		one()
		one() // again is nothing
		if got := percent(); got != want {
			t.Errorf("GOGC is %d while another starts, want %d", got, want)
		}
		two()
		if got := percent(); got != usual {
			t.Errorf("GOGC is %d after a start, want %d", got, usual)
		}
		debug.SetGCPercent(restore)
	}
}
