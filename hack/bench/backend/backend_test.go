package main

import (
	"strings"
	"testing"
)

func TestTheTableSaysWhatIsReached(t *testing.T) {
	t.Parallel()
	ours := []result{{publish: 90, deliver: 70, p50: 1.4, p99: 9}, {publish: 100, deliver: 70, p50: 1.4, p99: 9}}
	other := []result{{publish: 100, deliver: 100, p50: 1, p99: 3}, {publish: 100, deliver: 100, p50: 1, p99: 3}}
	text := table(options{goroutines: 64, size: 1024}, "a broker", "a machine", ours, other)
	for _, want := range []string{
		"| publish, 64 goroutines, records/s | 95 (90–100) | 100 (100–100) | 0.95 (0.90–1.00) | >= 0.8 | yes |",
		"| 0.70 (0.70–0.70) | >= 0.8 | no |", "| 1.40 (1.40–1.40) | <= 1.5 | yes |", "| 3.00 (3.00–3.00) |  |  |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\nlacks %s", text, want)
		}
	}
}
