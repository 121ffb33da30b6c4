package machine

import "testing"

func TestBusyTimeLeavesOutIdlenessAndGuests(t *testing.T) {
	t.Parallel()
	stat := []byte("cpu  100 20 30 9999 9999 4 5 6 70 80\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
	if got, want := parseBusy(stat).Seconds(), 1.65; got != want {
		t.Errorf("got %v s, want %v", got, want)
	}
	if got := parseBusy([]byte("intr 1 2 3")); got != 0 {
		t.Errorf("another format: got %v, want 0 for unknown", got)
	}
}
