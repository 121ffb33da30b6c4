package claimcheck

import "testing"

// The bound holds for all buffers: of payloads that come, that are kept, that are in
// use though they are no longer kept, and that wait to be used again.
func TestWhatIsKeptIsBounded(t *testing.T) {
	t.Parallel()
	const bound = 1 << 20
	k := newKept(bound)
	claim := func(size int64, n byte) *Claim {
		return &Claim{Store: "main", Object: string('a' + rune(n)), Size: size}
	}
	var used []*keptPayload
	var claims []*Claim
	for n := range byte(20) {
		size := int64(1000 << (n % 9))
		p := k.begin(size)
		if k.taken > bound {
			t.Fatalf("%d bytes are taken, want at most %d", k.taken, bound)
		}
		if p == nil {
			continue
		}
		c := claim(size, n)
		k.keep(c, p)
		p.release()
		claims = append(claims, c)
		if n%3 == 0 {
			used = append(used, k.hold(c))
		}
	}
	if len(used) == 0 || len(claims) < 10 {
		t.Fatalf("%d payloads were kept, %d are in use", len(claims), len(used))
	}
	for _, c := range claims {
		k.drop(c.Store, c.Object)
	}
	inUse := 0
	for _, p := range used {
		inUse += cap(p.data)
	}
	if rest := bound - inUse; rest < keepLeast {
		t.Fatalf("%d bytes are left, want a test with more", rest)
	}
	if k.begin(bound) != nil {
		t.Error("there is room for all that is allowed while some of it is in use")
	}
	for _, p := range used {
		p.release()
	}
	if p := k.begin(bound); p == nil || k.taken != bound {
		t.Errorf("nothing is in use, and there is no room: %d bytes are taken", k.taken)
	}
	if newKept(0).begin(1) != nil {
		t.Error("something is kept in no memory at all")
	}
}
