package ingress_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// unread fails the test when the body that it is gets read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestBodyThatIsAnnouncedAsTooLargeIsNeverSent(t *testing.T) {
	t.Parallel()
	f := newFixture(t).serve()
	// It is our word that counts, not that none comes for a while.
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: patience, DisableKeepAlives: true}}
	r := request(context.Background(), f.url, "", with("Expect", "100-continue"))
	r.Body, r.ContentLength = io.NopCloser(unread{t}), limit+1
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	read(t, res).want(t, http.StatusRequestEntityTooLarge, "", fmt.Sprint(limit), fmt.Sprint(limit+1))
	f.wantStored(0)
	f.wantBudgetFree()
}

func TestBodyOfUnknownLengthIsRefusedAsSoonAsItIsTooLarge(t *testing.T) {
	t.Parallel()
	f := newFixture(t).serve()
	c := f.dial()
	// The chunk goes one byte beyond the limit, and there is no end to it.
	fmt.Fprintf(c, "POST /ns/a HTTP/1.1\r\nHost: x\r\nce-specversion: 1.0\r\nce-id: 1\r\nce-source: s\r\nce-type: t\r\n"+
		"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s", 1<<20, strings.Repeat("x", limit+1))
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	read(t, res).want(t, http.StatusRequestEntityTooLarge, "", fmt.Sprint(limit))
	f.wantStored(0)
	f.wantBudgetFree()
}

// dial opens a connection that sends what it is told to and no more.
func (f *fixture) dial() net.Conn {
	f.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		f.t.Fatal(err)
	}
	return c
}

// The event is what must fit, with its attributes: the log stores both.
func TestAttributesCountAgainstTheLimit(t *testing.T) {
	t.Parallel()
	f := newFixture(t).serve()
	f.post(strings.Repeat("x", limit-512), nil).want(t, http.StatusAccepted, "")
	f.post(strings.Repeat("x", limit-512), with("ce-extension", strings.Repeat("y", 512))).
		want(t, http.StatusRequestEntityTooLarge, "", fmt.Sprint(limit))
	f.post(strings.Repeat("x", limit), nil).want(t, http.StatusRequestEntityTooLarge, "", fmt.Sprint(limit))
	f.wantStored(1)
	f.wantBudgetFree()
}

func TestLimitOfTheBackendIsNamedToo(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(s *setup) { s.store.MaxRecordBytes = 1024 }).serve()
	f.post(strings.Repeat("x", 1024), nil).want(t, http.StatusRequestEntityTooLarge, "", "too large")
	f.wantStored(0)
}

// Bodies of every size around those of the buffers arrive whole.
func TestBodyArrivesWholeWhateverItsLength(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(s *setup) { s.store.MaxRecordBytes = 1 << 20 })
	f.handler.MaxEventBytes = 1 << 20
	f.serve()
	seen := f.subscribe()
	for _, n := range []int{0, 1, 2047, 2048, 2049, 4096, 64 << 10, 64<<10 + 1, 300_000} {
		for _, chunked := range []bool{false, true} {
			body := strings.Repeat("0123456789", n/10+1)[:n]
			f.post(body, func(r *http.Request) {
				if chunked {
					r.ContentLength = -1
					r.Body = io.NopCloser(strings.NewReader(body))
				}
			}).want(t, http.StatusAccepted, "")
			if got := seen.next(t); got.body != body {
				t.Errorf("chunked %v: of %d bytes %d arrived, or others", chunked, n, len(got.body))
			}
		}
	}
	f.wantBudgetFree()
}
