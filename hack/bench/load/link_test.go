package main

import "testing"

func TestLinksShareNoAddress(t *testing.T) {
	t.Parallel()
	for n, want := range map[int][2]string{
		1:       {"198.18.0.5", "198.18.0.6"},
		64:      {"198.18.1.1", "198.18.1.2"},
		257:     {"198.18.4.5", "198.18.4.6"},
		1 << 14: {"198.19.0.1", "198.19.0.2"},
	} {
		if near, far := linkAddresses(n); near.String() != want[0] || far.String() != want[1] {
			t.Errorf("link %d is from %v to %v, want %v", n, near, far, want)
		}
	}
}
