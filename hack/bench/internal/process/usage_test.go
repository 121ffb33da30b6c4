package process

import (
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
	got, err := parsePeakRSS([]byte("VmPeak:\t  9 kB\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(12345 << 10); got != want {
		t.Errorf("got %d, want %d", got, want)
	}
	if _, err := parsePeakRSS([]byte("VmRSS:\t 1 kB\n")); err == nil {
		t.Error("a status without the mark passed")
	}
}
