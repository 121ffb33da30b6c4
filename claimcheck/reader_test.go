package claimcheck_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// corruptions are what may happen to an object; size is that of its payload.
func corruptions(size int) map[string]func([]byte) []byte {
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			b[at] ^= 0x40
			return b
		}
	}
	return map[string]func([]byte) []byte{
		"first byte":      flip(0),
		"middle":          flip(size / 2),
		"last byte":       flip(size - 1),
		"last byte cut":   func(b []byte) []byte { return append(b[:size-1], b[size:]...) },
		"cut to a half":   func(b []byte) []byte { return b[:size/2] },
		"cut to nothing":  func([]byte) []byte { return nil },
		"another payload": func(b []byte) []byte { return bytes.Repeat([]byte("x"), len(b)) },
	}
}

// The process that stored a payload holds it to its own seal, others to the claim's hash.
func TestCorruptedBytesAreNeverDeliveredWhole(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{true, false} {
		for _, size := range []int{1, 100, 32 << 10, 32<<10 + 1, 128 << 10, 2*mib + 3} {
			data := randomBytes(7, size)
			for name, change := range corruptions(size) {
				f := newFixture(t)
				c := f.put(t, data)
				r := f.Checkroom
				if !own {
					r = f.room(t, map[string]claimcheck.Store{"main": f.store}, "main")
				}
				f.store.overwrite(t, c.Object, change)
				for _, read := range []func(testing.TB, *claimcheck.Checkroom, claimcheck.Claim) ([]byte, error){readAll, readChunks} {
					got, err := read(t, r, c)
					if !errors.Is(err, claimcheck.ErrCorrupt) {
						t.Errorf("%d bytes, %s, own %v: got %v, want ErrCorrupt", size, name, own, err)
					}
					if len(got) >= size {
						t.Errorf("%d bytes, %s, own %v: all of them came out", size, name, own)
					}
				}
				if f.seen.failed[claimcheck.OpFetch] == 0 || f.seen.whole != 0 {
					t.Errorf("%d bytes, %s, own %v: observed %+v", size, name, own, f.seen)
				}
			}
		}
	}
}

func TestOtherProcessesReadWhatOneStored(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	other := f.room(t, map[string]claimcheck.Store{"main": f.store}, "main")
	for _, size := range []int{0, 1, 64 << 10, 64<<10 + 1, 128 << 10, 3*mib + 17} {
		data := randomBytes(3, size)
		c := f.put(t, data)
		wantPayload(t, f.Checkroom, c, data)
		wantPayload(t, other, c, data)
	}
}

func TestRangesYieldNothingCorrupted(t *testing.T) {
	t.Parallel()
	const size = 2*mib + 3
	data := randomBytes(7, size)
	for name, change := range corruptions(size) {
		f := newFixture(t)
		c := f.put(t, data)
		f.store.overwrite(t, c.Object, change)
		var got []byte
		r, err := f.OpenRanges(t.Context(), c)
		if err == nil {
			got, err = io.ReadAll(r)
			_ = r.Close()
		}
		if !errors.Is(err, claimcheck.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
		if !bytes.HasPrefix(data, got) || len(got) == size {
			t.Errorf("%s: %d bytes came out, right: %v", name, len(got), bytes.HasPrefix(data, got))
		}
	}
}

func TestABlockHashThatIsChangedIsFound(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.put(t, randomBytes(1, 2*mib))
	f.store.overwrite(t, c.Object, func(b []byte) []byte {
		b[len(b)-1] ^= 1
		return b
	})
	if _, err := f.OpenRanges(t.Context(), c); !errors.Is(err, claimcheck.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
}

func TestADeletedPayloadIsNotFound(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.put(t, randomBytes(1, mib))
	if err := f.store.Delete(t.Context(), c.Object); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(t.Context(), c); !errors.Is(err, claimcheck.ErrNotFound) {
		t.Errorf("open: got %v, want ErrNotFound", err)
	}
	if _, err := f.OpenRanges(t.Context(), c); !errors.Is(err, claimcheck.ErrNotFound) {
		t.Errorf("open ranges: got %v, want ErrNotFound", err)
	}
}

func TestRangesYieldWhatIsThere(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, mib, mib + 1, 3*mib + 17} {
		f := newFixture(t)
		data := randomBytes(3, size)
		c := f.put(t, data)
		r, err := f.OpenRanges(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if size <= mib { // reads byte by byte
			if err := iotest.TestReader(r, data); err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
		random := rand.New(rand.NewPCG(1, uint64(size)))
		for range 50 {
			at := random.Int64N(int64(size) + 10)
			if _, err := r.Seek(at, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			p := make([]byte, random.IntN(2*mib))
			n, err := io.ReadFull(r, p)
			want := data[min(at, int64(size)):]
			want = want[:min(len(want), len(p))]
			if !bytes.Equal(p[:n], want) {
				t.Fatalf("%d bytes at %d of %d: got %d bytes of %d, %v", len(p), at, size, n, len(want), err)
			}
		}
		if _, err := r.Seek(-1, io.SeekStart); err == nil {
			t.Error("seek before the beginning: no error")
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := r.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("read after close: got %v", err)
		}
	}
}

func TestAStreamReadsWell(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, size := range []int{0, 1, 40_000} {
		data := randomBytes(3, size)
		body, err := f.Open(t.Context(), f.put(t, data))
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(body, data); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		_ = body.Close()
	}
}

func TestAStoreThatIsNotConfiguredIsOutOfReach(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.put(t, []byte("x"))
	c.Store = "gone"
	_, err := f.Open(t.Context(), c)
	if !errors.Is(err, claimcheck.ErrUnavailable) || !strings.Contains(err.Error(), `"gone" is not configured, only ["main"]`) {
		t.Errorf("got %v, want ErrUnavailable that names the stores", err)
	}
}
