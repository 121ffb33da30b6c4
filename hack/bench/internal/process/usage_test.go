package process

import (
	"errors"
	"net/netip"
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

func TestConnectionsAreThoseOfTheProcessToTheAddress(t *testing.T) {
	t.Parallel()
	table := []byte("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 11 1\n" + // counts
		"   1: 0000000000000000FFFF00000100007F:C351 0000000000000000FFFF00000100007F:1F90 01 0:0 00:0 0  1000        0 12 1\n" + // counts
		"   2: 0100007F:C352 0100007F:1F90 06 00000000:00000000 00:00000000 00000000  1000        0 13 1\n" + // is closing
		"   3: 0100007F:C353 0100007F:1F91 01 00000000:00000000 00:00000000 00000000  1000        0 14 1\n" + // elsewhere
		"   4: 0100007F:C354 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 15 1\n") // another's
	of := map[string]bool{"11": true, "12": true, "13": true, "14": true}
	if n := countConnections(table, netip.MustParseAddrPort("127.0.0.1:8080"), of); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}
