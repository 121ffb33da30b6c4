package wire

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestASignerSignsAgainWhenHalfTheLifetimeIsOver(t *testing.T) {
	t.Parallel()
	now, built := epoch, 0
	s := signerAt(now, "key")
	s.now = func() time.Time { return now }
	header := func() string {
		h, err := s.Header(Key{"pod-1", "chain"}, func() *Slip { built++; return aSlip() })
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	first := header()
	now = now.Add(Lifetime/2 - time.Second)
	if header() != first || built != 1 {
		t.Fatalf("built %d times, want once", built)
	}
	now = now.Add(2 * time.Second)
	if second := header(); second == first || built != 2 {
		t.Fatalf("built %d times, want twice", built)
	}
	if len(s.slips) != 1 {
		t.Fatalf("%d slips are kept, want 1", len(s.slips))
	}
}

func TestTheCachesAreBounded(t *testing.T) {
	t.Parallel()
	now := epoch
	s, v := signerAt(now, "key"), verifierAt(t, &now, "key")
	for i := range 4000 {
		h, err := s.Header(Key{"pod-1", fmt.Sprint(i)}, func() *Slip {
			slip := aSlip()
			slip.Steps[0].Path = fmt.Sprintf("/%04000d", i)
			return slip
		})
		if err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 { // verifying is slow under the race detector
			if _, err := v.Verify(h); err != nil {
				t.Fatal(err)
			}
		}
		if s.bytes > maxSigned || v.bytes > maxVerified {
			t.Fatalf("after %d slips %d and %d bytes are kept, at most %d and %d should be", i, s.bytes, v.bytes, maxSigned, maxVerified)
		}
	}
	if len(s.slips) < 1000 || len(v.slips) < 200 {
		t.Errorf("only %d and %d slips are kept", len(s.slips), len(v.slips))
	}
	if want := size(s.slips, func(e signed) int { return len(e.header) }); s.bytes != want {
		t.Errorf("the signer counts %d bytes, and has %d", s.bytes, want)
	}
}

func size(m map[Key]signed, of func(signed) int) (n int) {
	for _, e := range m {
		n += of(e) + entryOverhead
	}
	return n
}

func TestASlipInTheCacheExpires(t *testing.T) {
	t.Parallel()
	now := epoch
	v := verifierAt(t, &now, "key")
	h := sign(t, signerAt(now, "key"), aSlip())
	if _, err := v.Verify(h); err != nil {
		t.Fatal(err)
	}
	now = now.Add(Lifetime + Skew)
	if _, err := v.Verify(h); err != nil {
		t.Fatalf("the other clock may be %v behind: %v", Skew, err)
	}
	now = now.Add(time.Second)
	if _, err := v.Verify(h); !errors.Is(err, ErrExpired) {
		t.Fatalf("got %v, want %v", err, ErrExpired)
	}
}

func TestASlipInTheCacheIsNoGoodWhenItsKeyIsNotTrustedAnyMore(t *testing.T) {
	t.Parallel()
	now := epoch
	v := verifierAt(t, &now, "old")
	h := sign(t, signerAt(now, "old"), aSlip())
	if _, err := v.Verify(h); err != nil {
		t.Fatal(err)
	}
	trust(t, v, "old", "new")
	if _, err := v.Verify(h); err != nil {
		t.Fatalf("while both keys are trusted: %v", err)
	}
	trust(t, v, "new")
	if _, err := v.Verify(h); !errors.Is(err, ErrForged) {
		t.Fatalf("got %v, want %v", err, ErrForged)
	}
}

func TestWhatPrepareRefusesIsNotKept(t *testing.T) {
	t.Parallel()
	now, calls, wrong := epoch, 0, errors.New("port not allowed")
	v := NewVerifier("pod-1", "pics", func(*Slip) (int, error) {
		calls++
		return 0, wrong
	})
	v.now = func() time.Time { return now }
	trust(t, v, "key")
	h := sign(t, signerAt(now, "key"), aSlip())
	for range 2 {
		if _, err := v.Verify(h); !errors.Is(err, wrong) {
			t.Fatal(err)
		}
	}
	if calls != 2 {
		t.Errorf("asked %d times, want 2", calls)
	}
}

func TestALookUpDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	now := epoch
	s, v := signerAt(now, "key"), verifierAt(t, &now, "key")
	k := Key{"pod-1", "chain"}
	var header string
	if n := testing.AllocsPerRun(100, func() { header, _ = s.Header(k, aSlip) }); n != 0 {
		t.Errorf("Header: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := v.Verify(header); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Verify: %v allocations", n)
	}
}
