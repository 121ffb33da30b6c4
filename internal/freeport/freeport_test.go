package freeport

import (
	"net"
	"testing"
)

func TestNoAddressIsGivenTwice(t *testing.T) {
	given := map[string]bool{}
	for range 500 { // of 20,000: by chance alone some would be
		a, err := Address()
		if err != nil {
			t.Fatal(err)
		}
		if given[a] {
			t.Fatalf("%s was given twice", a)
		}
		given[a] = true
	}
	for a := range given {
		l, err := net.Listen("tcp", a)
		if err != nil {
			t.Fatalf("what was given is not free: %v", err)
		}
		l.Close()
	}
}
