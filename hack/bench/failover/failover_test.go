package main

import (
	"strings"
	"testing"
	"time"
)

func TestTheReportSaysWhatIsReached(t *testing.T) {
	t.Parallel()
	o := options{logs: 5000, processes: 3, brokers: []string{"nats", "kafka"}}
	text := report(o, map[string]result{
		"nats":  {failover: 3 * time.Second, members: []cost{{memory: 100 << 20, connections: 2, cpu: 0.06}}},
		"kafka": {failover: 9 * time.Second, late: 1600, half: 8 * time.Second, members: []cost{{memory: 10 << 20}, {memory: 300 << 20, connections: 14}}},
	}, "a machine")
	for _, want := range []string{
		"| | nats | kafka | goal | reached |", "| 3.0 | 9.0 | <= 10 | yes |", "| 0 | 1600 |", "| 100 | 300 | <= 400 | yes |",
		"| 6.0% | 0.0% | < 5% | no |", "| sockets | 2 | 14 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\nlacks %s", text, want)
		}
	}
}

func TestBadUsageIsRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-brokers", "rabbit"}, {"-processes", "1"}, {"-logs", "0"}, {"more"}} {
		if _, err := parse(args, new(strings.Builder)); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
