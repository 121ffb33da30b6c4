package claimcheck_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/blobstore"
)

const benchSize = 64 * mib

func benchRoom(b *testing.B, keep ...int) *claimcheck.Checkroom {
	b.Helper()
	s, err := blobstore.File(filepath.Join(b.TempDir(), "claims"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	r, err := claimcheck.New(claimcheck.Config{Stores: map[string]claimcheck.Store{"main": s}, Current: "main", Keys: keys(b), Keep: append(keep, 0)[0]})
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// BenchmarkStore is to be compared with BenchmarkCopyToFile: what it costs to
// write the same bytes with nothing else.
func BenchmarkStore(b *testing.B) {
	r, data := benchRoom(b), randomBytes(1, benchSize)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		c, err := r.Store(b.Context(), claimcheck.Payload{Owner: owner, Rest: onlyReader(data), Length: benchSize})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Discard(context.Background(), c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCopyToFile(b *testing.B) {
	data, name := randomBytes(1, benchSize), filepath.Join(b.TempDir(), "file")
	b.SetBytes(benchSize)
	for b.Loop() {
		f, err := os.Create(name)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{f}, onlyReader(data), make([]byte, 256<<10)); err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
		if err := os.Remove(name); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	benchRead(b, func(r *claimcheck.Checkroom, c claimcheck.Claim) (io.ReadCloser, error) {
		return r.Open(b.Context(), c)
	})
}

func BenchmarkOpenRanges(b *testing.B) {
	benchRead(b, func(r *claimcheck.Checkroom, c claimcheck.Claim) (io.ReadCloser, error) {
		return r.OpenRanges(b.Context(), c)
	})
}

func benchRead(b *testing.B, open func(*claimcheck.Checkroom, claimcheck.Claim) (io.ReadCloser, error)) {
	b.Helper()
	r := benchRoom(b)
	c, err := r.Store(b.Context(), claimcheck.Payload{Owner: owner, Rest: bytes.NewReader(randomBytes(1, benchSize)), Length: -1})
	if err != nil {
		b.Fatal(err)
	}
	buffer := make([]byte, 256<<10)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		body, err := open(r, c)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, body, buffer); n != benchSize || err != nil {
			b.Fatal(n, err)
		}
		if err := body.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHeader(b *testing.B) {
	f := newFixture(b)
	c := f.put(b, []byte("x"))
	b.ReportAllocs()
	for b.Loop() {
		h, err := f.Header(c)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.ParseHeader(h, owner); err != nil {
			b.Fatal(err)
		}
	}
}
