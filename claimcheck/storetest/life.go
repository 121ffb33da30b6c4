package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

func list(t *testing.T, s claimcheck.Store, prefix string) map[string]claimcheck.Object {
	t.Helper()
	found := map[string]claimcheck.Object{}
	for o, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("list %q: %v", prefix, err)
		}
		if _, twice := found[o.Name]; twice {
			t.Errorf("listed twice: %s", o.Name)
		}
		found[o.Name] = o
	}
	return found
}

var errReader = errors.New("client went away")

func failingReader(t *testing.T, h Harness) {
	s := h.open(t)
	for _, n := range []int64{0, 1, 100 << 10, mib, 12 * mib, 20 * mib} {
		r := io.MultiReader(payload(1, n), failing{})
		if err := s.Put(t.Context(), "x", r); !errors.Is(err, errReader) {
			t.Errorf("put after %d bytes: got %v, want the reader's error", n, err)
		} else if errors.Is(err, claimcheck.ErrUnavailable) {
			t.Errorf("put after %d bytes: the reader's fault is said to be the store's: %v", n, err)
		}
		wantMissing(t, s, "x")
	}
	put(t, s, "y", []byte("whole"))
	if err := s.Put(t.Context(), "y", failing{}); !errors.Is(err, errReader) {
		t.Errorf("got %v, want the reader's error", err)
	}
	wantBytes(t, s, "y", 0, -1, []byte("whole"))
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errReader }

func cancelledPut(t *testing.T, h Harness) {
	s := h.open(t)
	cause := errors.New("shutting down")
	for _, after := range []int64{0, 1, mib, 12 * mib} {
		ctx, cancel := context.WithCancelCause(t.Context())
		r := io.MultiReader(payload(1, after), once(func() { cancel(cause) }), payload(2, 12*mib))
		if err := s.Put(ctx, "x", r); !errors.Is(err, cause) {
			t.Errorf("put cancelled after %d bytes: got %v, want the cause", after, err)
		}
		wantMissing(t, s, "x")
	}
}

// once is an empty reader that calls a function on the way.
type once func()

func (f once) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

func invisible(t *testing.T, h Harness) {
	s := h.open(t)
	look := once(func() {
		if _, err := read(t.Context(), s, "x", 0, -1); !errors.Is(err, claimcheck.ErrNotFound) {
			t.Errorf("read in the middle of put: got %v, want ErrNotFound", err)
		}
		for name, o := range list(t, s, "") {
			if name == "x" || !o.Partial {
				t.Errorf("listed in the middle of put: %+v", o)
			}
		}
	})
	if err := s.Put(t.Context(), "x", io.MultiReader(payload(1, 12*mib), look, payload(2, mib), look)); err != nil {
		t.Fatal(err)
	}
	if found := list(t, s, ""); found["x"].Size != 13*mib || len(found) != 1 {
		t.Errorf("after put: got %v", found)
	}
}

func deleteTwice(t *testing.T, h Harness) {
	s := h.open(t)
	put(t, s, "d/x", []byte("x"))
	put(t, s, "d/y", []byte("y"))
	for range 2 {
		if err := s.Delete(t.Context(), "d/x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(t.Context(), "never/was"); err != nil {
		t.Errorf("delete what never was: %v", err)
	}
	wantBytes(t, s, "d/y", 0, -1, []byte("y"))
	if err := s.Delete(t.Context(), "d/y"); err != nil {
		t.Fatal(err)
	}
	wantMissing(t, s, "d/x")
}

func listAll(t *testing.T, h Harness) {
	s := h.open(t)
	before := time.Now().Add(-time.Hour)
	const n = 1_050 // more than a page
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				name := fmt.Sprintf("many/%d/%d", i%3, i)
				if err := s.Put(t.Context(), name, strings.NewReader(strings.Repeat("x", i%7))); err != nil {
					t.Errorf("put %s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
	found := list(t, s, "")
	if len(found) != n {
		t.Errorf("listed %d of %d", len(found), n)
	}
	for i := range n {
		o := found[fmt.Sprintf("many/%d/%d", i%3, i)]
		if o.Size != int64(i%7) || o.Partial || o.Modified.Before(before) {
			t.Fatalf("object %d: got %+v", i, o)
		}
	}
	for prefix, want := range map[string]int{"many/": n, "many/1/": n / 3, "many/1/10": 0, "no": 0, "no/such/": 0, "man": n} {
		if want == 0 {
			for i := range n {
				if strings.HasPrefix(fmt.Sprintf("many/%d/%d", i%3, i), prefix) {
					want++
				}
			}
		}
		if got := len(list(t, s, prefix)); got != want {
			t.Errorf("list %q: got %d, want %d", prefix, got, want)
		}
	}
}

func listBreak(t *testing.T, h Harness) {
	s := h.open(t)
	for i := range 5 {
		put(t, s, fmt.Sprintf("x%d", i), nil)
	}
	seen := 0
	for _, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen == 2 {
			break
		}
	}
	if seen != 2 {
		t.Errorf("saw %d objects, want 2", seen)
	}
}

func listCancelled(t *testing.T, h Harness) {
	s := h.open(t)
	put(t, s, "x", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for o, err := range s.List(ctx, "") {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %+v, %v, want context.Canceled", o, err)
		}
	}
	if _, err := read(ctx, s, "x", 0, -1); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("read: got %v, want context.Canceled or none", err)
	}
}

func concurrent(t *testing.T, h Harness) {
	s := h.open(t)
	data := make([][]byte, 16)
	for i := range data {
		data[i] = payloadBytes(t, uint64(i), int64(i)*200<<10)
	}
	var wg sync.WaitGroup
	for i, want := range data {
		wg.Go(func() {
			name := fmt.Sprintf("c/%d", i)
			if err := s.Put(t.Context(), name, bytes.NewReader(want)); err != nil {
				t.Errorf("put %s: %v", name, err)
				return
			}
			var readers sync.WaitGroup
			for range 3 {
				readers.Go(func() {
					got, err := read(t.Context(), s, name, 0, -1)
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("read %s: %d bytes of %d, %v", name, len(got), len(want), err)
					}
				})
			}
			readers.Wait()
			if err := s.Delete(t.Context(), name); err != nil {
				t.Errorf("delete %s: %v", name, err)
			}
		})
	}
	wg.Wait()
	wantMissing(t, s, "c/1")
}

func unavailable(t *testing.T, h Harness) {
	if h.Down == nil {
		t.Skip("nothing that could be out of reach")
	}
	s := h.Down(t)
	t.Cleanup(func() { _ = s.Close() })
	check := func(op string, err error) {
		t.Helper()
		if !errors.Is(err, claimcheck.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", op, err)
		}
	}
	// More than any client would hold back until Put's end.
	check("put", s.Put(t.Context(), "x", payload(1, 24*mib)))
	_, err := read(t.Context(), s, "x", 0, -1)
	check("open", err)
	for _, err := range s.List(t.Context(), "") {
		check("list", err)
	}
}

func interrupted(t *testing.T, h Harness) {
	if h.Interrupt == nil {
		t.Skip("a killed put leaves nothing")
	}
	s := h.open(t)
	put(t, s, "p/whole", []byte("whole"))
	h.Interrupt(t, s, "p/torn")
	partial := 0
	for name, o := range list(t, s, "") {
		if name == "p/whole" {
			continue
		}
		partial++
		if !o.Partial || time.Since(o.Modified).Abs() > time.Hour {
			t.Errorf("got %+v, want it to be partial, and of now", o)
		}
		if _, err := s.Open(t.Context(), "p/torn", 0, -1); !errors.Is(err, claimcheck.ErrNotFound) {
			t.Errorf("open what is partial: got %v, want ErrNotFound", err)
		}
		for range 2 {
			if err := s.Delete(t.Context(), name); err != nil {
				t.Errorf("delete %q: %v", name, err)
			}
		}
	}
	if partial == 0 {
		t.Error("the partial object is not listed")
	}
	if found := list(t, s, ""); len(found) != 1 {
		t.Errorf("got %v, want only the whole object", found)
	}
}
