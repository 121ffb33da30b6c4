package ingress_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/blobstore"
	"github.com/sidestep-dev/sidestep/claimcheck/faultstore"
)

// Sizes of the fixtures with payloads, in bytes.
const (
	threshold      = 2 << 10 // of data, in a record
	mostStructured = 64 << 10
	mostEvent      = 8 << 20
)

// withPayloads is for newFixture.
func withPayloads(s *setup) { s.payloads = true }

func claimKeys(t testing.TB) *claimcheck.Keys {
	t.Helper()
	keys, err := claimcheck.NewKeys(bytes.Repeat([]byte("k"), 32))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// openPayloads makes a store in memory and what keeps payloads in it.
func (f *fixture) openPayloads() *channel.Claims {
	f.t.Helper()
	f.payloads = faultstore.New(blobstore.Memory())
	var err error
	f.room, err = claimcheck.New(claimcheck.Config{
		Stores: map[string]claimcheck.Store{"main": f.payloads}, Current: "main", Keys: claimKeys(f.t),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	claims, err := channel.NewClaims(channel.ClaimsConfig{Room: f.room, Threshold: threshold, MaxEventBytes: mostEvent})
	if err != nil {
		f.t.Fatal(err)
	}
	return claims
}

// objects counts the payloads in the store.
func (f *fixture) objects() int {
	f.t.Helper()
	names, err := f.payloads.Payloads(context.Background())
	if err != nil {
		f.t.Fatal(err)
	}
	return len(names)
}

func (f *fixture) wantObjects(n int) {
	f.t.Helper()
	if got := f.objects(); got != n {
		f.t.Errorf("there are %d payloads in the store, want %d", got, n)
	}
}

// stored reads the payload of the next record of channel ns/a; nil if it has none.
func (f *fixture) stored() []byte {
	f.t.Helper()
	rec := f.receive()
	for _, h := range rec.Header {
		if h.Name != "sidestep-claim" {
			continue
		}
		if len(rec.Data) > 0 {
			f.t.Errorf("a record with a claim has %d bytes of data, too", len(rec.Data))
		}
		c, err := f.room.ParseHeader(h.Value, "ns/a")
		if err != nil {
			f.t.Fatal(err)
		}
		r, err := f.room.Open(context.Background(), c)
		if err != nil {
			f.t.Fatal(err)
		}
		defer r.Close()
		b, err := io.ReadAll(r)
		if err != nil {
			f.t.Fatal(err)
		}
		return b
	}
	return nil
}

// bytesOf are n bytes that look like nothing.
func bytesOf(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// scaled is n, or more with SIDESTEP_LONG=1.
func scaled(n, long int) int {
	if os.Getenv("SIDESTEP_LONG") == "1" {
		return long
	}
	return n
}

// closeDispatcher has the dispatcher delete what is to be deleted.
func (f *fixture) closeDispatcher() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.dispatcher.Close(ctx); err != nil {
		f.t.Fatal(err)
	}
}

// callStatus is call for a client that may have gone.
func (f *fixture) callStatus(ctx context.Context, body string) int {
	f.t.Helper()
	w := httptest.NewRecorder()
	w.Code = 0
	f.handler.ServeHTTP(w, request(ctx, "http://ingress", body, nil))
	return w.Code
}

// wantStatus reads the answer to what was sent over c.
func (f *fixture) wantStatus(c io.Reader, status int) {
	f.t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != status {
		f.t.Errorf("got status %d, want %d", res.StatusCode, status)
	}
}
