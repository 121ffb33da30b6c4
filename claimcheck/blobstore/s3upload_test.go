package blobstore_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/blobstore"
	"github.com/sidestep-dev/sidestep/claimcheck/storetest/s3server"
)

const mib = 1 << 20

func random(seed byte, n int64) io.Reader {
	return struct{ io.Reader }{io.LimitReader(rand.NewChaCha8([32]byte{seed}), n)}
}

func wantObject(t *testing.T, s claimcheck.Store, name string, want io.Reader) {
	t.Helper()
	r, err := s.Open(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	put, err := io.ReadAll(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, put) {
		t.Errorf("%s: got %d bytes that differ from the %d put", name, len(got), len(put))
	}
}

// faultyPart is an S3 server that refuses an upload's second part as often as told,
// after it has seen a part of it.
func faultyPart(t *testing.T, srv *s3server.Server, refusals int64) (endpoint string, refused *atomic.Int64) {
	t.Helper()
	to, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // which is signed
	}}
	refused = new(atomic.Int64)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("partNumber") == "2" && refused.Add(1) <= refusals {
			_, _ = io.CopyN(io.Discard, r.Body, mib)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL, refused
}

func TestS3PartIsSentAgain(t *testing.T) {
	srv := s3server.Start(t)
	endpoint, tries := faultyPart(t, srv, 1)
	s := openS3(t, blobstore.S3Config{Bucket: "claims", Endpoint: endpoint, CredentialsFile: credentialsFile(t, srv)})
	defer s.Close()
	if err := s.Put(t.Context(), "x", random(1, 12*mib)); err != nil {
		t.Fatal(err)
	}
	wantObject(t, s, "x", random(1, 12*mib))
	if n := tries.Load(); n != 2 {
		t.Errorf("the second part was sent %d times, want 2", n)
	}
}

func TestS3UploadThatFailsLeavesNothing(t *testing.T) {
	srv := s3server.Start(t)
	endpoint, _ := faultyPart(t, srv, 1<<40)
	s := openS3(t, blobstore.S3Config{Bucket: "claims", Endpoint: endpoint, CredentialsFile: credentialsFile(t, srv)})
	defer s.Close()
	if err := s.Put(t.Context(), "x", random(1, 30*mib)); !errors.Is(err, claimcheck.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	for o, err := range s.List(t.Context(), "") {
		t.Errorf("%+v is left (error: %v)", o, err)
	}
}

// Parts that end where an object does, and parts that are no whole number of chunks.
func TestS3SizesAroundParts(t *testing.T) {
	srv := s3server.Start(t)
	for _, partSize := range []int64{5 * mib, 5*mib + 77} {
		s := openS3(t, blobstore.S3Config{
			Bucket: "claims", Endpoint: srv.URL, CredentialsFile: credentialsFile(t, srv), PartSize: int(partSize),
		})
		for _, n := range []int64{partSize - 1, partSize, partSize + 1, 2*partSize - 1, 2 * partSize, 2*partSize + 1} {
			name := strconv.FormatInt(n, 10)
			if err := s.Put(t.Context(), name, random(1, n)); err != nil {
				t.Fatal(err)
			}
			wantObject(t, s, name, random(1, n))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// gauge looks at the heap every MiB: at what is in use, as each look collects the rest.
type gauge struct {
	mu    sync.Mutex
	most  uint64
	since int
}

func (g *gauge) look() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	g.most = max(g.most, m.HeapAlloc)
	return m.HeapAlloc
}

func (g *gauge) watch(r io.Reader) io.Reader { return &watched{r, g} }

type watched struct {
	io.Reader
	by *gauge
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.by.mu.Lock()
	defer w.by.mu.Unlock()
	if w.by.since += n; w.by.since >= mib {
		w.by.since = 0
		w.by.look()
	}
	return n, err
}

// What four uploads hold at once: a part each, what they may read ahead, and a
// little for the client.
func TestS3UploadsAtOnceTakeLittleMemory(t *testing.T) {
	const uploads, size = 4, 40 * mib
	const limit = uploads*5*mib + 10*mib
	srv := s3server.Start(t)
	s := openS3(t, blobstore.S3Config{Bucket: "claims", Endpoint: srv.URL, CredentialsFile: credentialsFile(t, srv)})
	defer s.Close()
	g := &gauge{}
	base := g.look()
	var all sync.WaitGroup
	for i := range byte(uploads) {
		all.Go(func() {
			if err := s.Put(t.Context(), "x/"+strconv.Itoa(int(i)), g.watch(random(i, size))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if grown := int64(g.most) - int64(base); grown > limit {
		t.Errorf("the heap grew by %d MiB, want at most %d", grown/mib, limit/mib)
	}
	for i := range byte(uploads) {
		wantObject(t, s, "x/"+strconv.Itoa(int(i)), random(i, size))
	}
}
