package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

const mib = 1 << 20

// payload yields n bytes that are the same for the same seed.
func payload(seed uint64, n int64) io.Reader {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	return io.LimitReader(rand.NewChaCha8(key), n)
}

func payloadBytes(t *testing.T, seed uint64, n int64) []byte {
	t.Helper()
	b, err := io.ReadAll(payload(seed, n))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t *testing.T, s claimcheck.Store, name string, data []byte) {
	t.Helper()
	// Only Read, as it is with a request's body.
	if err := s.Put(t.Context(), name, struct{ io.Reader }{bytes.NewReader(data)}); err != nil {
		t.Fatal(err)
	}
}

func read(ctx context.Context, s claimcheck.Store, name string, offset, length int64) ([]byte, error) {
	r, err := s.Open(ctx, name, offset, length)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func wantBytes(t *testing.T, s claimcheck.Store, name string, offset, length int64, want []byte) {
	t.Helper()
	got, err := read(t.Context(), s, name, offset, length)
	if err != nil {
		t.Fatalf("read %s from %d, %d bytes: %v", name, offset, length, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("read %s from %d, %d bytes: got %d bytes that differ from the %d wanted", name, offset, length, len(got), len(want))
	}
}

func wantMissing(t *testing.T, s claimcheck.Store, name string) {
	t.Helper()
	if _, err := read(t.Context(), s, name, 0, -1); !errors.Is(err, claimcheck.ErrNotFound) {
		t.Errorf("read %s: got %v, want ErrNotFound", name, err)
	}
	if found := list(t, s, ""); len(found) != 0 {
		t.Errorf("something is left: %v", found)
	}
}

func bytesComeBack(t *testing.T, h Harness) {
	s := h.open(t)
	for _, n := range []int64{0, 1, 511, 512, 128 << 10, 256<<10 - 1, 256 << 10, mib - 1, mib + 1, 5 * mib, 17*mib + 3} {
		name := fmt.Sprintf("a/b-%d", n)
		data := payloadBytes(t, uint64(n), n)
		put(t, s, name, data)
		wantBytes(t, s, name, 0, -1, data)
	}
}

func anyRange(t *testing.T, h Harness) {
	s := h.open(t)
	const size = 3*mib + 17
	data := payloadBytes(t, 1, size)
	// Objects written at the same time share what is beneath, in a stream for example.
	var others sync.WaitGroup
	for i := range 3 {
		others.Go(func() {
			_ = s.Put(t.Context(), fmt.Sprintf("other/%d", i), payload(uint64(i), 4*mib))
		})
	}
	put(t, s, "ranges/x", data)
	others.Wait()
	for _, r := range [][2]int64{
		{0, 0},
		{0, 1},
		{0, size},
		{1, 1},
		{mib, mib},
		{mib - 1, 2},
		{2*mib + 5, mib},
		{size - 1, 1},
		{size - 1, -1},
		{mib + 7, -1},
		{3 * mib, 17},
		{128 << 10, 128 << 10},
		{777, 300 << 10},
		{size - 5, 100},
		{0, size + 100},
	} {
		end := int64(size)
		if r[1] >= 0 {
			end = min(end, r[0]+r[1])
		}
		wantBytes(t, s, "ranges/x", r[0], r[1], data[r[0]:end])
	}
}

func replaced(t *testing.T, h Harness) {
	s := h.open(t)
	put(t, s, "x", []byte("old and long"))
	put(t, s, "x", []byte("new"))
	wantBytes(t, s, "x", 0, -1, []byte("new"))
	if found := list(t, s, ""); len(found) != 1 || found["x"].Size != 3 {
		t.Errorf("got %v, want one object of 3 bytes", found)
	}
}

func missing(t *testing.T, h Harness) {
	s := h.open(t)
	wantMissing(t, s, "no/such")
	put(t, s, "a/b", []byte("x"))
	if _, err := read(t.Context(), s, "a", 0, -1); !errors.Is(err, claimcheck.ErrNotFound) {
		t.Errorf("read what is only the beginning of a name: got %v, want ErrNotFound", err)
	}
}

func badNames(t *testing.T, h Harness) {
	s := h.open(t)
	for _, name := range []string{
		"", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/..", ".", "./a", ".hidden", "a/.b",
		"A", "a b", "a\x00b", "ä", `a\b`, "a%2fb", strings.Repeat("a", 201),
	} {
		if err := s.Put(t.Context(), name, strings.NewReader("x")); !errors.Is(err, claimcheck.ErrName) {
			t.Errorf("put %q: got %v, want ErrName", name, err)
		}
		if _, err := s.Open(t.Context(), name, 0, -1); !errors.Is(err, claimcheck.ErrName) {
			t.Errorf("open %q: got %v, want ErrName", name, err)
		}
		if err := s.Delete(t.Context(), name); !errors.Is(err, claimcheck.ErrName) {
			t.Errorf("delete %q: got %v, want ErrName", name, err)
		}
	}
	if found := list(t, s, ""); len(found) != 0 {
		t.Errorf("something was stored: %v", found)
	}
}

func closeEarly(t *testing.T, h Harness) {
	s := h.open(t)
	data := payloadBytes(t, 1, 4*mib)
	put(t, s, "x", data)
	for range 20 {
		r, err := s.Open(t.Context(), "x", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wantBytes(t, s, "x", 0, -1, data)
}

// bigObject is what passes through in constant memory; heapLimit is what that
// may be: the parts of an upload, and a server in this process.
const (
	bigObject = 160 * mib
	heapLimit = 48 * mib
)

func constantMemory(t *testing.T, h Harness) {
	if h.InMemory {
		t.Skip("the object itself is on the heap")
	}
	s := h.open(t)
	m := newMeter()
	sum := sha256.New()
	if err := s.Put(t.Context(), "big", io.TeeReader(m.watch(payload(9, bigObject)), sum)); err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(t.Context(), "big", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	back := sha256.New()
	if n, err := io.Copy(back, m.watch(r)); err != nil || n != bigObject {
		t.Fatalf("read %d bytes of %d: %v", n, bigObject, err)
	}
	if !sameSum(sum, back) {
		t.Error("what came back is not what was put")
	}
	if m.peak > heapLimit {
		t.Errorf("the heap grew by %d MiB for %d MiB, want at most %d", m.peak/mib, bigObject/mib, heapLimit/mib)
	}
}

func sameSum(a, b hash.Hash) bool { return bytes.Equal(a.Sum(nil), b.Sum(nil)) }

// meter looks at the heap every 8 MiB.
type meter struct {
	base, peak int64
	r          io.Reader
	since      int
}

func newMeter() *meter { return &meter{base: heap()} }

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func (m *meter) watch(r io.Reader) io.Reader {
	m.r = r
	return struct{ io.Reader }{m}
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if m.since += n; m.since >= 8*mib {
		m.since = 0
		m.peak = max(m.peak, heap()-m.base)
	}
	return n, err
}
