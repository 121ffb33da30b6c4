package claimcheck

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

func sealOf(s *seals, number uint64, parts ...[]byte) seal {
	of := s.sealing(number)
	defer of.free()
	for _, p := range parts {
		of.write(p)
	}
	return of.sum()
}

func chunksOf(seed byte, n int) [][]byte {
	data := make([]byte, n*sealChunk)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return slices.Collect(slices.Chunk(data, sealChunk))
}

func TestASealIsOfTheBytesAndNotOfTheWrites(t *testing.T) {
	t.Parallel()
	s := newSeals()
	data := bytes.Join(chunksOf(1, 3), nil)[:2*sealChunk+777]
	want := sealOf(s, 1, data)
	for _, n := range []int{1000, sealChunk - 1, sealChunk, sealChunk + 1, len(data)} {
		if got := sealOf(s, 1, slices.Collect(slices.Chunk(data, n))...); got != want {
			t.Errorf("in writes of %d bytes: another seal", n)
		}
	}
}

// A chunk is sealed in its place, and for its payload.
func TestASealTellsEveryChange(t *testing.T) {
	t.Parallel()
	s := newSeals()
	c := chunksOf(2, 4)
	zero := make([]byte, sealChunk)
	seen := map[seal]string{}
	for name, parts := range map[string][][]byte{
		"as it was": c, "swapped": {c[1], c[0], c[2], c[3]}, "swapped later": {c[0], c[1], c[3], c[2]},
		"without the first": c[1:], "without the last": c[:3], "without one": {c[0], c[2], c[3]},
		"twice": {c[0], c[1], c[1], c[2], c[3]}, "one for another": {c[0], c[1], c[2], c[2]},
		"a byte more": {c[0], c[1], c[2], c[3], {0}}, "a byte less": {c[0], c[1], c[2], c[3][:sealChunk-1]},
		"zeros": {zero}, "more zeros": {zero, zero}, "a zero": {{0}}, "nothing": nil,
	} {
		got := sealOf(s, 7, parts...)
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q have the same seal", name, other)
		}
		seen[got] = name
	}
	if sealOf(s, 8, c...) == sealOf(s, 7, c...) {
		t.Error("another payload's number: the same seal")
	}
	if sealOf(newSeals(), 7, c...) == sealOf(s, 7, c...) {
		t.Error("another process's key: the same seal")
	}
}

// A payload is held to its seal only if that is of the same payload, and to its
// hash where there is none.
func TestPayloadsWithoutASealAreHeldToTheirHash(t *testing.T) {
	t.Parallel()
	s, data := newSeals(), []byte("payload")
	claim := func(object string) *Claim { return &Claim{Store: "main", Object: object, SHA256: sha256.Sum256(data)} }
	keep := func(s *seals, object string) {
		of := s.begin()
		defer of.free()
		of.write(data)
		s.keep(claim(object), of)
	}
	hold := func(s *seals, c *Claim, wantSeal bool) {
		t.Helper()
		for _, read := range []string{"payload", "Payload"} {
			held := s.check(c)
			held.write([]byte(read))
			if _, is := held.(*sealCheck); is != wantSeal || held.right() != (read == "payload") {
				t.Errorf("%s, %q: held to a seal %v, right %v", c.Object, read, is, held.right())
			}
			held.free()
		}
	}
	keep(s, "a")
	hold(s, claim("a"), true)
	hold(s, claim("b"), false)
	hold(nil, claim("a"), false)
	other := claim("a")
	other.SHA256[0] ^= 1
	if _, is := s.check(other).(*hashCheck); !is {
		t.Error("a claim with another hash is held to the seal")
	}
	for i := range maxSeals {
		keep(s, strconv.Itoa(i))
	}
	if len(s.kept) > maxSeals {
		t.Errorf("%d seals are kept, want at most %d", len(s.kept), maxSeals)
	}
	hold(s, claim("a"), false)
	keep(nil, "a")
}
