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

func TestTheTableOfTheSequenceSaysWhatIsReached(t *testing.T) {
	t.Parallel()
	text := sequenceTable([]sequenceResult{{400, 30}, {600, 20}, {500, 10}}, []sequenceResult{{deliveries: 9, p50: 12.5}})
	for _, want := range []string{
		"| record deliveries/s, all steps, 32 events at once | 500 (400–600) | >= 500 | yes |",
		"one partition | 100 (80–120) |", "32 at once, p50, ms | 20.0 (10.0–30.0) |", "one event at a time, p50, ms | 12.5",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\nlacks %s", text, want)
		}
	}
}
