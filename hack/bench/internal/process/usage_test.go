package process

import (
	"errors"
	"testing"
	"time"
)

func TestProcessorTimeIsUserAndSystemWhateverTheProcessIsCalled(t *testing.T) {
	stat := []byte("42 (a) b (c) S 1 42 42 0 -1 4194560 3 0 0 0 250 150 0 0 20 0 9 0 1 2 3")
	got, err := parseCPU(stat)
	if err != nil {
		t.Fatal(err)
	}
	if want := 4 * time.Second; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := parseCPU([]byte("42 (a) S 1")); err == nil {
		t.Error("a short line passed")
	}
}

func TestPeakRSSIsTheHighWaterMarkInBytes(t *testing.T) {
	got, err := parseMemory([]byte("VmPeak:\t  9 kB\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n"), Peak)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(12345 << 10); got != want {
		t.Errorf("got %d, want %d", got, want)
	}
	if _, err := parseMemory([]byte("VmRSS:\t 1 kB\n"), Peak); err == nil {
		t.Error("a status without the mark passed")
	}
}

func TestParseMemoryReadsTheFieldThatIsAskedFor(t *testing.T) {
	t.Parallel()
	status := []byte("VmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t7\n")
	for field, want := range map[string]int64{"VmRSS": 1 << 20, "VmHWM": 2 << 20} {
		if got, err := parseMemory(status, field); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", field, got, err, want)
		}
	}
	for _, field := range []string{"VmPin", "Threads"} {
		if _, err := parseMemory(status, field); !errors.Is(err, errFormat) {
			t.Errorf("%s: %v, want errFormat", field, err)
		}
	}
}
