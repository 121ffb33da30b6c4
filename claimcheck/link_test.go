package claimcheck_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// served is a fixture behind an HTTP server.
type served struct {
	*fixture
	url string
}

func serve(t *testing.T) *served {
	t.Helper()
	f := newFixture(t)
	srv := httptest.NewServer(f.Handler())
	t.Cleanup(srv.Close)
	return &served{f, srv.URL}
}

func (s *served) link(t *testing.T, c claimcheck.Claim, ttl time.Duration) string {
	t.Helper()
	path, err := s.Link(t.Context(), c, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *served) do(t *testing.T, method, path string, header ...string) (*http.Response, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// want is a request that must be answered with a status.
func (s *served) want(t *testing.T, status int, method, path string, header ...string) (*http.Response, []byte) {
	t.Helper()
	resp, body, err := s.do(t, method, path, header...)
	if err != nil {
		t.Fatalf("%s %.60s: %v", method, path, err)
	}
	if resp.StatusCode != status {
		t.Errorf("%s %.60s %q: got %d %.100q, want %d", method, path, header, resp.StatusCode, body, status)
	}
	return resp, body
}

func TestALinkYieldsThePayload(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for i, n := range sizes {
		data := randomBytes(byte(i), n)
		c := s.put(t, data)
		path := s.link(t, c, time.Hour)
		etag := fmt.Sprintf(`"%x"`, c.SHA256)
		for _, method := range []string{"GET", "HEAD"} {
			resp, body := s.want(t, 200, method, path)
			if method == "GET" && !bytes.Equal(body, data) || method == "HEAD" && len(body) != 0 {
				t.Errorf("%s of %d bytes: got %d", method, n, len(body))
			}
			if h := resp.Header; resp.ContentLength != int64(n) || h.Get("Content-Type") != "image/png" || h.Get("Etag") != etag ||
				h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Security-Policy") == "" {
				t.Errorf("%s of %d bytes: got %d, %v", method, n, resp.ContentLength, h)
			}
		}
		s.want(t, 304, "GET", path, "If-None-Match", etag)
	}
}

func TestALinkServesRanges(t *testing.T) {
	t.Parallel()
	s := serve(t)
	data := randomBytes(1, 3*mib+5)
	c := s.put(t, data)
	path, etag := s.link(t, c, time.Hour), fmt.Sprintf(`"%x"`, c.SHA256)
	for _, tt := range []struct {
		rang, ifRange string
		status        int
		want          []byte
	}{
		{"bytes=0-0", "", 206, data[:1]},
		{"bytes=1048570-1048580", "", 206, data[mib-6 : mib+5]},
		{"bytes=3145728-", "", 206, data[3*mib:]},
		{"bytes=-7", "", 206, data[len(data)-7:]},
		{"bytes=100-200", etag, 206, data[100:201]},
		{"bytes=100-200", `"other"`, 200, data},
		{"bytes=0-0,5-5", "", 200, data}, // many ranges would cost a block each
		{"bytes=4000000-", "", 416, nil},
		{"lines=1-2", "", 416, nil},
	} {
		header := []string{"Range", tt.rang}
		if tt.ifRange != "" {
			header = append(header, "If-Range", tt.ifRange)
		}
		if _, body := s.want(t, tt.status, "GET", path, header...); tt.want != nil && !bytes.Equal(body, tt.want) {
			t.Errorf("%s: got %d bytes that differ from the %d wanted", tt.rang, len(body), len(tt.want))
		}
	}
}

func TestALinkExpires(t *testing.T) {
	t.Parallel()
	s := serve(t)
	path := s.link(t, s.put(t, []byte("x")), time.Hour)
	s.clock.add(time.Hour)
	s.want(t, 200, "GET", path)
	s.clock.add(2 * time.Second)
	for _, method := range []string{"GET", "HEAD"} {
		s.want(t, 403, method, path)
	}
	if _, _, err := s.ParseLink(path); !errors.Is(err, claimcheck.ErrExpired) {
		t.Errorf("got %v, want ErrExpired", err)
	}
}

func TestAForgedLinkIsForbidden(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := s.put(t, []byte("x"))
	path := s.link(t, c, time.Hour)
	for i := len(claimcheck.LinkPath); i < len(path); i++ {
		b := []byte(path)
		if b[i] ^= 1; b[i] == '/' || b[i] == '.' || b[i] == ',' {
			b[i] = 'A'
		}
		if string(b) == path {
			continue
		}
		if _, _, err := s.ParseLink(string(b)); !errors.Is(err, claimcheck.ErrSignature) {
			t.Fatalf("character %d changed: got %v", i, err)
		}
	}
	header, err := s.Header(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, forged := range []string{
		path[:len(path)-1], path + "A", path + path[len(claimcheck.LinkPath):],
		claimcheck.LinkPath + header, claimcheck.LinkPath + "A", claimcheck.LinkPath + strings.Repeat("A", 5000),
	} {
		s.want(t, 403, "GET", forged)
	}
}

// A signature is for one object: no part of it can be used for another.
func TestALinkReachesNothingElse(t *testing.T) {
	t.Parallel()
	s := serve(t)
	mine := s.put(t, []byte("mine"))
	theirs, err := s.Store(t.Context(), claimcheck.Payload{Owner: "team-b/secret", Head: []byte("theirs"), Length: -1})
	if err != nil {
		t.Fatal(err)
	}
	a, b := s.link(t, mine, time.Hour), s.link(t, theirs, time.Hour)
	for cut := len(claimcheck.LinkPath) + 1; cut < min(len(a), len(b)); cut++ {
		for _, mixed := range []string{a[:cut] + b[cut:], b[:cut] + a[cut:]} {
			if c, _, err := s.ParseLink(mixed); err == nil && mixed != a && mixed != b {
				t.Fatalf("spliced at %d: accepted as %+v", cut, c)
			}
		}
	}
	if _, body := s.want(t, 200, "GET", a); string(body) != "mine" {
		t.Errorf("got %q", body)
	}
	for _, path := range []string{
		"/", "/claims", "/claims/", "/claims/" + mine.Object, "/claims/../" + mine.Object, "/claims/%2e%2e/" + mine.Object,
		"/" + mine.Object, a + "/", a + "/..", a + "/../../etc/passwd", a + "%2f..%2fx", "/claims//" + a[len(claimcheck.LinkPath):],
		"/claims/..%2f..%2fetc%2fpasswd", "/claims/file:%2f%2f%2fetc%2fpasswd", "/claims/.", "/claims/..", "//claims/x",
	} {
		s.want(t, 404, "GET", path)
	}
}

func TestOtherMethodsAreNotAllowed(t *testing.T) {
	t.Parallel()
	s := serve(t)
	path := s.link(t, s.put(t, []byte("x")), time.Hour)
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		resp, _ := s.want(t, 405, method, path)
		if resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: got Allow %q", method, resp.Header.Get("Allow"))
		}
	}
	s.want(t, 200, "GET", path)
}

func TestAnswersWhenThePayloadCannotBeServed(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := s.put(t, randomBytes(1, 2*mib))
	path := s.link(t, c, time.Hour)
	s.store.err = claimcheck.ErrUnavailable
	if resp, _ := s.want(t, 503, "GET", path); resp.Header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	s.store.err = nil
	if err := s.store.Delete(t.Context(), c.Object); err != nil {
		t.Fatal(err)
	}
	s.want(t, 404, "GET", path)
	s.want(t, 404, "HEAD", path)
}

func TestACorruptedPayloadIsNeverServedWhole(t *testing.T) {
	t.Parallel()
	const size = 2*mib + 3
	for name, change := range corruptions(size) {
		s := serve(t)
		c := s.put(t, randomBytes(7, size))
		path := s.link(t, c, time.Hour)
		s.store.overwrite(t, c.Object, change)
		resp, body, err := s.do(t, "GET", path)
		if err == nil && resp.StatusCode != http.StatusInternalServerError {
			t.Errorf("%s: got %d and %d bytes of %d, complete", name, resp.StatusCode, len(body), size)
		}
	}
}

// It is part of every request and answer of a step, and so of what a hop takes.
func TestALinkIsShort(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if path := s.link(t, s.put(t, randomBytes(1, 2*mib)), time.Hour); len(path) > 180 {
		t.Errorf("got %d characters: %s", len(path), path)
	}
}

// What a link says is enough to serve it, and for nothing else.
func TestALinksClaimIsForRangesAlone(t *testing.T) {
	t.Parallel()
	s := serve(t)
	data := randomBytes(1, mib+1)
	made := s.put(t, data)
	c, _, err := s.ParseLink(s.link(t, made, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.OpenRanges(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, %v, want the %d stored", len(got), err, len(data))
	}
	_, opened := s.Open(t.Context(), c)
	_, carried := s.Carry(t.Context(), c, owner)
	_, encoded := s.Header(c)
	_, linked := s.Link(t.Context(), c, time.Hour)
	for what, err := range map[string]error{"open": opened, "carry": carried, "header": encoded, "link": linked} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	made.SHA256[0] ^= 1
	if _, err := s.OpenRanges(t.Context(), made); !errors.Is(err, claimcheck.ErrCorrupt) {
		t.Errorf("another hash of all than the trailer's: got %v, want ErrCorrupt", err)
	}
}

func TestALinkMarksItsPayloadOnce(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := s.put(t, []byte("x"))
	puts := s.store.puts
	for range 10 {
		s.link(t, c, time.Hour)
	}
	if got := s.store.puts - puts; got != 1 {
		t.Errorf("%d writes for ten links, want one", got)
	}
}
