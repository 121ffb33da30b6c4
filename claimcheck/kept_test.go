package claimcheck_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// keeping is a Checkroom that keeps so many bytes in memory.
func (f *fixture) keeping(t testing.TB, bytes int) *claimcheck.Checkroom {
	t.Helper()
	r, err := claimcheck.New(claimcheck.Config{
		Stores: map[string]claimcheck.Store{"main": f.store}, Current: "main", Keys: keys(t), Keep: bytes,
		TTL: ttl, Slack: slack, Observer: f.seen, Now: f.clock.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// store stores data of which it is known how long it is.
func store(t testing.TB, r *claimcheck.Checkroom, data []byte) claimcheck.Claim {
	t.Helper()
	head := min(len(data), 1000)
	c, err := r.Store(t.Context(), claimcheck.Payload{
		Owner: owner, Head: data[:head], Rest: onlyReader(data[head:]), Length: int64(len(data)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// whatComes reads a payload in each of the ways that there are.
func whatComes(t testing.TB, r *claimcheck.Checkroom, c claimcheck.Claim) map[string][]byte {
	t.Helper()
	ways := map[string][]byte{}
	var err error
	if ways["Read"], err = readAll(t, r, c); err != nil {
		t.Fatal(err)
	}
	if ways["Next"], err = readChunks(t, r, c); err != nil {
		t.Fatal(err)
	}
	if data, release := r.Hold(c); data != nil {
		ways["Hold"] = bytes.Clone(data)
		release()
	}
	return ways
}

func TestSmallPayloadsAreDeliveredFromMemory(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 64 << 10, 64<<10 + 1, 128 << 10, 128<<10 + 1, 500 << 10, mib, 2 * mib} {
		f := newFixture(t)
		r, data := f.keeping(t, 4*mib), randomBytes(1, size)
		c := store(t, r, data)
		stored := f.store.steps
		for way, got := range whatComes(t, r, c) {
			if !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %s: others came", size, way)
			}
		}
		if f.store.steps != stored {
			t.Errorf("%d bytes: %d calls of the store, want none", size, f.store.steps-stored)
		}
		if f.seen.fetched != 3*int64(size) || f.seen.whole != 3 {
			t.Errorf("%d bytes: observed %d bytes, %d payloads", size, f.seen.fetched, f.seen.whole)
		}
		// It is in the store all the same.
		for way, got := range whatComes(t, f.Checkroom, c) {
			if !bytes.Equal(got, data) {
				t.Errorf("%d bytes from the store, %s: others came", size, way)
			}
		}
	}
}

// What became of the object meanwhile does not matter to who has the bytes, and is an
// error to everybody else.
func TestAPayloadInMemoryIsRightWhateverBecameOfTheObject(t *testing.T) {
	t.Parallel()
	data := randomBytes(2, 500<<10)
	for what, want := range map[string]error{"deleted": claimcheck.ErrNotFound, "changed": claimcheck.ErrCorrupt} {
		f := newFixture(t)
		r := f.keeping(t, mib)
		c := store(t, r, data)
		if what == "deleted" {
			if err := f.store.Delete(t.Context(), c.Object); err != nil {
				t.Fatal(err)
			}
		} else {
			f.store.overwrite(t, c.Object, func(b []byte) []byte { b[7]++; return b })
		}
		wantPayload(t, r, c, data)
		if _, err := readAll(t, f.Checkroom, c); !errors.Is(err, want) {
			t.Errorf("%s, from the store: %v, want %v", what, err, want)
		}
		// One more has its room: now it is read from the store here, too.
		store(t, r, randomBytes(3, mib))
		if _, err := readAll(t, r, c); !errors.Is(err, want) {
			t.Errorf("%s, no longer in memory: %v, want %v", what, err, want)
		}
	}
}

func TestWhatIsNotKeptComesFromTheStore(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.keeping(t, 3*mib)
	inMemory := func(c claimcheck.Claim) bool {
		data, release := r.Hold(c)
		if data != nil {
			release()
		}
		return data != nil
	}
	large := randomBytes(1, 2*mib+1)
	if c := store(t, r, large); inMemory(c) {
		t.Error("a large payload is in memory")
	} else {
		wantPayload(t, r, c, large)
	}
	chunked, err := r.Store(t.Context(), claimcheck.Payload{Owner: owner, Rest: onlyReader(large[:mib]), Length: -1})
	if err != nil || inMemory(chunked) {
		t.Errorf("one of unknown length is in memory, or %v", err)
	}
	empty := store(t, r, nil)
	wantPayload(t, r, empty, nil)

	// The one that was used least lately goes.
	var all []claimcheck.Claim
	for i := range 3 {
		all = append(all, store(t, r, randomBytes(byte(i), mib)))
	}
	if !inMemory(all[0]) {
		t.Fatal("there was room for three")
	}
	all = append(all, store(t, r, randomBytes(3, mib)))
	for i, want := range []bool{true, false, true, true} {
		if inMemory(all[i]) != want {
			t.Errorf("payload %d is in memory: %v, want %v", i, !want, want)
		}
		wantPayload(t, r, all[i], randomBytes(byte(i), mib))
	}
	forged := all[3]
	forged.SHA256[0]++
	if inMemory(forged) {
		t.Error("a claim with another hash yields what is in memory")
	}
}

func TestDeletedPayloadsLeaveMemory(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.keeping(t, mib)
	c := store(t, r, randomBytes(1, 1000))
	if done, err := r.Discard(t.Context(), c); !done || err != nil {
		t.Fatal(done, err)
	}
	if _, err := readAll(t, r, c); !errors.Is(err, claimcheck.ErrNotFound) {
		t.Errorf("discarded: %v, want ErrNotFound", err)
	}
	c = store(t, r, randomBytes(1, 1000))
	f.clock.add(ttl + 2*slack)
	if swept, err := r.Sweep(t.Context(), refer()); swept.Payloads != 1 || err != nil {
		t.Fatal(swept, err)
	}
	if _, err := readAll(t, r, c); !errors.Is(err, claimcheck.ErrNotFound) {
		t.Errorf("swept: %v, want ErrNotFound", err)
	}
}

// A payload that fails on its way in is in memory as little as in the store, and its room
// is used again.
func TestFailedPayloadsLeaveNothingInMemory(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.keeping(t, mib)
	broken := errors.New("the client is gone")
	data := randomBytes(1, mib)
	for range 3 {
		for what, p := range map[string]claimcheck.Payload{
			"too short":  {Rest: onlyReader(data[:mib-1]), Length: mib},
			"too long":   {Rest: onlyReader(data), Length: mib - 1},
			"much more":  {Rest: onlyReader(data), Length: 1000},
			"broken off": {Rest: io.MultiReader(onlyReader(data[:mib/2]), failing{broken}), Length: mib},
			"limit":      {Rest: onlyReader(data), Length: mib, Limit: mib - 1},
		} {
			p.Owner = owner
			if _, err := r.Store(t.Context(), p); err == nil {
				t.Errorf("%s: no error", what)
			}
		}
		f.store.err = errDead
		if _, err := r.Store(t.Context(), claimcheck.Payload{Owner: owner, Rest: onlyReader(data), Length: mib}); !errors.Is(err, errDead) {
			t.Errorf("a store that fails: %v", err)
		}
		f.store.err = nil
	}
	if n := len(f.objects(t)); n != 0 {
		t.Errorf("%d objects are in the store", n)
	}
	c := store(t, r, data)
	if held, release := r.Hold(c); !bytes.Equal(held, data) {
		t.Error("there is no room any more for one that comes whole")
	} else {
		release()
	}
}

// What is being read keeps its bytes while others come and go.
func TestBytesInUseAreNotUsedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const size, many = 100_000, 16
	r := f.keeping(t, 4*128<<10)
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			for n := range 20 {
				data := randomBytes(byte(i*20+n), size+n)
				c := store(t, r, data)
				held, release := r.Hold(c)
				body, err := r.Open(t.Context(), c)
				if err != nil {
					t.Error(err)
					return
				}
				store(t, r, randomBytes(byte(n), size))
				got, err := io.ReadAll(body)
				if !bytes.Equal(got, data) || err != nil {
					t.Errorf("%d bytes of %d came, or others, %v", len(got), len(data), err)
				}
				if held != nil {
					if !bytes.Equal(held, data) {
						t.Error("what is held was changed")
					}
					release()
				}
				if err := body.Close(); err != nil {
					t.Error(err)
				}
				if _, err := body.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
					t.Errorf("read after Close: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkDeliver(b *testing.B) {
	for _, keep := range []int{0, 16 * mib} {
		b.Run(fmt.Sprintf("keep=%dMiB", keep/mib), func(b *testing.B) {
			r := benchRoom(b, keep)
			const size = 500 << 10
			data := randomBytes(1, size)
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				c, err := r.Store(b.Context(), claimcheck.Payload{Owner: owner, Rest: onlyReader(data), Length: size})
				if err != nil {
					b.Fatal(err)
				}
				body, err := r.Open(b.Context(), c)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, body); err != nil {
					b.Fatal(err)
				}
				if err := body.Close(); err != nil {
					b.Fatal(err)
				}
				if _, err := r.Discard(b.Context(), c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
