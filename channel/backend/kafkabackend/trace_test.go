package kafkabackend

import (
	"bytes"
	"container/ring"
	"log/slog"
	"sync"
	"testing"
)

// trace keeps the last lines that a connection logs, which are what it read in
// the fleet's topic for the most part, and shows them if the test fails.
type trace struct {
	mu    sync.Mutex
	lines *ring.Ring
}

const tracedLines = 300

func traced(t testing.TB) *slog.Logger {
	t.Helper()
	tr := &trace{lines: ring.New(tracedLines)}
	t.Cleanup(func() {
		if t.Failed() {
			tr.show(t)
		}
	})
	return slog.New(slog.NewTextHandler(tr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (tr *trace) Write(line []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.lines.Value = bytes.Clone(line)
	tr.lines = tr.lines.Next()
	return len(line), nil
}

func (tr *trace) show(t testing.TB) {
	t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	var all bytes.Buffer
	tr.lines.Do(func(line any) {
		if b, ok := line.([]byte); ok {
			all.Write(b)
		}
	})
	t.Logf("one of the connections:\n%s", all.Bytes())
}
