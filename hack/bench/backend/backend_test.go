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

func TestTheTableOfTheFlowsSaysWhatIsReached(t *testing.T) {
	t.Parallel()
	f := flows{
		ours:   map[int][]sequenceResult{1: {{400, 30}, {600, 20}, {500, 10}}, 5: {{100, 50}}},
		relay:  map[int][]sequenceResult{1: {{800, 10}, {600, 10}, {1000, 10}}, 5: {{200, 25}}},
		single: []sequenceResult{{deliveries: 9, p50: 12.5}},
	}
	text := f.table()
	for _, want := range []string{
		"| one step: deliveries/s of each partition | 500 (400–600) | 800 (600–1,000) | 0.50 (0.50–1.00) | >= 500 | yes |",
		"| the same, from the first publish to the last step, p50, ms | 20.0 (10.0–30.0) | 10.0 (10.0–10.0) | 2.00 (1.00–3.00) |",
		"| 5 steps: deliveries/s of each partition | 100 (100–100) | 200 (200–200) | 0.50 (0.50–0.50) |",
		"| 5 steps, one event at a time, p50, ms | 12.5",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\nlacks %s", text, want)
		}
	}
}
