package claimcheck_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

var sizes = []int{0, 1, 999, 1000, 1001, 32 << 10, 32<<10 + 1, mib - 1, mib, mib + 1, 2 * mib, 3*mib + 5}

func TestAPayloadComesBackAsItWas(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var total int64
	for i, n := range sizes {
		data := randomBytes(byte(i), n)
		c := f.put(t, data)
		if c.Size != int64(n) || c.SHA256 != sha256.Sum256(data) || c.Owner != owner || c.ContentType != "image/png" || c.Store != "main" {
			t.Errorf("claim of %d bytes: got %+v", n, c)
		}
		if left := c.Expires.Sub(f.clock.now()); left < ttl {
			t.Errorf("it expires in %v, want at least %v", left, ttl)
		}
		wantPayload(t, f.Checkroom, c, data)
		total += int64(n)
	}
	if got := len(f.objects(t)); got != len(sizes) {
		t.Errorf("%d objects for %d payloads", got, len(sizes))
	}
	if f.seen.stored != total || f.seen.fetched != total || f.seen.storedN != len(sizes) || f.seen.whole != len(sizes) {
		t.Errorf("observed %+v, want %d bytes stored and fetched", f.seen, total)
	}
}

func TestWhatIsRefusedLeavesNothing(t *testing.T) {
	t.Parallel()
	errClient := errors.New("client went away")
	data := randomBytes(1, 2*mib)
	for name, tt := range map[string]struct {
		change func(*claimcheck.Payload)
		want   error
	}{
		"larger than its limit":             {func(p *claimcheck.Payload) { p.Limit = 2*mib - 1 }, claimcheck.ErrTooLarge},
		"announced larger than its limit":   {func(p *claimcheck.Payload) { p.Limit, p.Length = mib, 2*mib }, claimcheck.ErrTooLarge},
		"shorter than announced":            {func(p *claimcheck.Payload) { p.Length = 2*mib + 1 }, claimcheck.ErrLength},
		"longer than announced":             {func(p *claimcheck.Payload) { p.Length = 2*mib - 1 }, claimcheck.ErrLength},
		"head alone longer than announced":  {func(p *claimcheck.Payload) { p.Length = 10 }, claimcheck.ErrLength},
		"cut by the client":                 {func(p *claimcheck.Payload) { p.Rest = io.MultiReader(p.Rest, failing{errClient}) }, errClient},
		"cut by the client, wrapping EOF":   {func(p *claimcheck.Payload) { p.Rest = io.MultiReader(p.Rest, failing{io.ErrUnexpectedEOF}) }, io.ErrUnexpectedEOF},
		"of nobody":                         {func(p *claimcheck.Payload) { p.Owner = "" }, nil},
		"of a namespace":                    {func(p *claimcheck.Payload) { p.Owner = "team-a" }, nil},
		"of three names":                    {func(p *claimcheck.Payload) { p.Owner = "a/b/c" }, nil},
		"of a content type that never ends": {func(p *claimcheck.Payload) { p.ContentType = strings.Repeat("a", 513) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			p := claimcheck.Payload{Owner: owner, Head: data[:100], Rest: onlyReader(data[100:]), Length: -1}
			tt.change(&p)
			c, err := f.Store(t.Context(), p)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, %v, want %v", c, err, tt.want)
			}
			if left := f.objects(t); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
			if f.seen.failed[claimcheck.OpStore] != 1 || f.seen.storedN != 0 {
				t.Errorf("observed %+v", f.seen)
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestAPayloadExactlyAtItsLimitIsTaken(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	data := randomBytes(1, mib)
	c, err := f.Store(t.Context(), claimcheck.Payload{Owner: owner, Head: data, Length: mib, Limit: mib})
	if err != nil {
		t.Fatal(err)
	}
	wantPayload(t, f.Checkroom, c, data)
}

func TestAStoreThatIsDownIsSaidToBe(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.put(t, []byte("x"))
	f.store.err = claimcheck.ErrUnavailable
	_, stored := f.Store(t.Context(), claimcheck.Payload{Owner: owner, Length: -1})
	_, opened := f.Open(t.Context(), c)
	_, ranges := f.OpenRanges(t.Context(), c)
	_, linked := f.Link(t.Context(), c, ttl)
	_, discarded := f.Discard(t.Context(), c)
	_, swept := f.Sweep(t.Context(), refer())
	for op, err := range map[string]error{
		"store": stored, "open": opened, "open ranges": ranges, "link": linked, "discard": discarded, "sweep": swept,
	} {
		if !errors.Is(err, claimcheck.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", op, err)
		}
	}
}

func TestAPayloadPassedOnUnchangedIsNotStoredAgain(t *testing.T) {
	t.Parallel()
	for i, n := range sizes {
		f := newFixture(t)
		data := randomBytes(byte(i), n)
		c := f.put(t, data)
		for _, length := range []int64{-1, int64(n)} {
			again, err := f.Store(t.Context(), claimcheck.Payload{
				Owner: "team-a/next", ContentType: "image/png", Length: length,
				Head: data[:n/2], Rest: onlyReader(data[n/2:]), Same: &c,
			})
			if err != nil {
				t.Fatal(err)
			}
			if again.Object != c.Object || again.Owner != "team-a/next" {
				t.Errorf("%d bytes: got %+v, want the same object for another owner", n, again)
			}
		}
		if f.store.puts != 1 || f.seen.reused != 2*int64(n) || f.seen.reusedN != 2 {
			t.Errorf("%d bytes: %d puts, observed %+v", n, f.store.puts, f.seen)
		}
	}
}

func TestAPayloadThatDiffersIsStoredWhole(t *testing.T) {
	t.Parallel()
	old := randomBytes(1, 3*mib+5)
	flip := func(at int) []byte {
		b := bytes.Clone(old)
		b[at] ^= 1
		return b
	}
	for name, data := range map[string][]byte{
		"nothing": nil, "shorter": old[:3*mib], "much shorter": old[:10], "shorter by one": old[:len(old)-1],
		"longer": append(bytes.Clone(old), 1), "longer by a block": append(bytes.Clone(old), make([]byte, mib)...),
		"first byte": flip(0), "end of a block": flip(mib - 1), "second block": flip(mib), "last byte": flip(len(old) - 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			c := f.put(t, old)
			other, err := f.Store(t.Context(), claimcheck.Payload{
				Owner: owner, ContentType: "image/png", Length: -1, Rest: onlyReader(data), Same: &c,
			})
			if err != nil {
				t.Fatal(err)
			}
			if other.Object == c.Object || f.seen.reusedN != 0 {
				t.Error("a payload that differs is said to be the same")
			}
			wantPayload(t, f.Checkroom, other, data)
			wantPayload(t, f.Checkroom, c, old)
		})
	}
}

func TestAnotherTypeOrNamespaceIsNotTheSame(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	data := randomBytes(1, mib)
	c := f.put(t, data)
	for _, p := range []claimcheck.Payload{
		{Owner: owner, ContentType: "image/gif", Length: -1},
		{Owner: "team-b/pics", ContentType: "image/png", Length: -1},
	} {
		p.Rest, p.Same = onlyReader(data), &c
		other, err := f.Store(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if other.Object == c.Object {
			t.Errorf("%s, %s: the object is shared", p.Owner, p.ContentType)
		}
		wantPayload(t, f.Checkroom, other, data)
	}
}

func TestACorruptedOriginalDoesNotSpoilAnAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	old := randomBytes(1, 3*mib)
	c := f.put(t, old)
	f.store.overwrite(t, c.Object, func(b []byte) []byte {
		b[5] ^= 1
		return b
	})
	// The first two blocks would be read back from what is corrupted.
	data := append(bytes.Clone(old[:2*mib]), "and now for something else"...)
	_, err := f.Store(t.Context(), claimcheck.Payload{
		Owner: owner, ContentType: "image/png", Length: -1, Rest: onlyReader(data), Same: &c,
	})
	if !errors.Is(err, claimcheck.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
	if left := f.objects(t); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestACancelledStoreLeavesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	data := randomBytes(1, mib)
	stop := readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, io.EOF
	})
	_, err := f.Store(ctx, claimcheck.Payload{
		Owner: owner, Length: -1, Rest: io.MultiReader(bytes.NewReader(data), stop, bytes.NewReader(data)),
	})
	if !errors.Is(err, context.Canceled) || len(f.objects(t)) != 0 {
		t.Errorf("got %v, %v", err, f.objects(t))
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// It would be over when it has come, or nearly so: a sweeper could delete it before
// its record is published.
func TestAPayloadThatComesForTooLongIsRefused(t *testing.T) {
	t.Parallel()
	for took, want := range map[time.Duration]error{ttl/2 - time.Second: nil, ttl/2 + 2*time.Second: claimcheck.ErrSlow} {
		f := newFixture(t)
		pause := readerFunc(func([]byte) (int, error) {
			f.clock.add(took)
			return 0, io.EOF
		})
		_, err := f.Store(t.Context(), claimcheck.Payload{
			Owner: owner, Length: -1, Rest: io.MultiReader(bytes.NewReader(randomBytes(1, mib)), pause),
		})
		if !errors.Is(err, want) {
			t.Errorf("after %v: got %v, want %v", took, err, want)
		}
		if n := len(f.objects(t)); (n == 0) != (want != nil) {
			t.Errorf("after %v: %d objects", took, n)
		}
	}
}

// What a store says that a Put takes is added to what a stream does.
func TestTheMemoryOfAnUploadIsThatOfItsStoreToo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const part = 5 * mib
	r := f.room(t, map[string]claimcheck.Store{"main": buffering{f.store, part}}, "main")
	stream := f.Memory(-1)
	for length, want := range map[int64]int64{-1: stream + part, 100 * mib: stream + part, mib: stream + mib, 1000: 2000} {
		if got := r.Memory(length); got != want {
			t.Errorf("%d bytes: %d, want %d", length, got, want)
		}
	}
	if stream > mib {
		t.Errorf("a stream takes %d bytes", stream)
	}
}

type buffering struct {
	claimcheck.Store
	part int64
}

func (b buffering) PutMemory(length int64) int64 {
	if length < 0 {
		return b.part
	}
	return min(length, b.part)
}
