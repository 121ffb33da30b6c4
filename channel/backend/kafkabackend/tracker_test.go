package kafkabackend

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A tracker is held against a plain map under random calls.
func TestATrackerKnowsWhatIsSettled(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		base := int64(rnd.IntN(1000))
		tr := tracker{base: base}
		model := make(map[int64]state)
		of := func(o int64) state {
			if o < base {
				return settled
			}
			return model[o]
		}
		for range 300 {
			o := base + int64(rnd.IntN(200)) - 5
			switch s := state(rnd.IntN(4)); {
			case rnd.IntN(50) == 0:
				tr.skip(o)
				for i := base; i < o; i++ {
					model[i] = settled
				}
			case of(o) == settled:
				if tr.set(o, s) {
					t.Fatalf("seed %d: a settled record became %d", seed, s)
				}
			default:
				if tr.set(o, s) != (of(o) != s) {
					t.Fatalf("seed %d: set(%d, %d) says it was so", seed, o, s)
				}
				model[o] = s
			}
			for of(base) == settled {
				base++
			}
			if tr.base != base {
				t.Fatalf("seed %d: base %d, want %d", seed, tr.base, base)
			}
		}
		var acked []int64
		for o := base - 3; o < base+250; o++ {
			if tr.of(o) != of(o) {
				t.Fatalf("seed %d: record %d is %d, want %d", seed, o, tr.of(o), of(o))
			}
			if o >= base && of(o) == settled {
				acked = append(acked, o)
			}
		}
		if p := tr.position(); p.prefix != base || !slices.Equal(p.acked, acked) {
			t.Fatalf("seed %d: position %v, want %d and %v", seed, p, base, acked)
		}
	}
}

func TestAPositionFitsIntoItsMetadata(t *testing.T) {
	t.Parallel()
	for _, every := range []int64{1, 2, 3, 7, 8, 50, 1000, spanLimit - 1} {
		p := position{prefix: 12345}
		for o := int64(1); o < spanLimit; o += every {
			p.acked = append(p.acked, p.prefix+o)
		}
		text := p.encode()
		if len(text) > metadataBytes || text == "" {
			t.Errorf("every %dth of %d acked: %d bytes of metadata", every, int(spanLimit), len(text))
		}
		back, err := decodePosition(p.prefix, text)
		if err != nil || !slices.Equal(back.acked, p.acked) {
			t.Errorf("every %dth: %d acked came back as %d, %v", every, len(p.acked), len(back.acked), err)
		}
	}
}

func FuzzPosition(f *testing.F) {
	f.Add(int64(0), []byte{1, 0, 5, 200}, "s1YgU=")
	f.Add(int64(1)<<60, []byte{255}, "s1cgEB")
	f.Fuzz(func(t *testing.T, prefix int64, gaps []byte, text string) {
		if p, err := decodePosition(prefix, text); err == nil {
			last := prefix - 1
			for _, o := range p.acked {
				if o <= last || o > prefix+8*metadataBytes {
					t.Fatalf("offset %d after %d, from %d on", o, last, prefix)
				}
				last = o
			}
		} else if len(p.acked) > 0 || p.prefix != prefix {
			t.Fatalf("what is malformed says that %d are acked", len(p.acked))
		}
		if prefix < 0 || prefix > 1<<62 {
			return
		}
		p := position{prefix: prefix}
		for o, i := prefix, 0; i < len(gaps); i++ {
			if o += 1 + int64(gaps[i])/8; o-prefix < spanLimit {
				p.acked = append(p.acked, o)
			}
		}
		back, err := decodePosition(prefix, p.encode())
		if err != nil || back.prefix != prefix || !slices.Equal(back.acked, p.acked) {
			t.Fatalf("%v came back as %v, %v", p, back, err)
		}
	})
}

func TestMetadataOfOthersIsNotTakenForOurs(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"hello", "s1", "s1!", "s1eA==", strings.Repeat("x", 5000)} {
		p, err := decodePosition(7, text)
		if err == nil || p.prefix != 7 || len(p.acked) > 0 {
			t.Errorf("metadata %.20q: %v, %v", text, p, err)
		}
	}
}
