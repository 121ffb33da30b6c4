package ingress_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// chunks is a body whose length the client does not tell.
func chunks(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }

const head = "POST /ns/a HTTP/1.1\r\nHost: x\r\nce-specversion: 1.0\r\nce-id: 1\r\nce-source: s\r\nce-type: t\r\n"

func TestClientThatLeavesInTheMiddleOfItsBodyLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]string{
		"of known length": "Content-Length: 1000\r\n\r\nhalf",
		"in chunks":       "Transfer-Encoding: chunked\r\n\r\n1000\r\nhalf",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t).serve()
			c := f.dial()
			fmt.Fprint(c, head+begin)
			f.eventually("the body to be read", func() bool { return f.budget.Used() > 0 })
			c.Close()
			if got := f.observed(1)[0]; got != 400 && got != 499 {
				t.Errorf("it was counted as %d, want 400 or 499", got)
			}
			f.wantStored(0)
			f.wantBudgetFree()
		})
	}
}

func TestClientThatLeavesBeforeItsAnswerIsCountedAs499(t *testing.T) {
	if !onNetHTTP() {
		t.Skip("a Server does not watch whether a client has gone")
	}
	t.Parallel()
	g := newGate()
	f := newFixture(t, g.around).serve()
	c := f.dial()
	fmt.Fprint(c, head+"Content-Length: 4\r\n\r\ndata")
	wait(t, "the publish", g.came)
	c.Close()
	if got := f.observed(1); got[0] != 499 {
		t.Errorf("it was counted as %d, want 499", got[0])
	}
	f.wantStored(0)
	f.wantBudgetFree()
}

// Who sends slowly must not keep a table alive: removals wait for those who
// work from an older one.
func TestSlowBodyDoesNotHoldTheTable(t *testing.T) {
	t.Parallel()
	f := newFixture(t).serve()
	c := f.dial()
	fmt.Fprint(c, head+"Content-Length: 4\r\n\r\nda")
	f.eventually("the body to be read", func() bool { return f.budget.Used() > 0 })
	if epoch, got := f.apply(aChannel()), f.dispatcher.Observed(); got != epoch {
		t.Errorf("observed is %d while a client sends, want %d", got, epoch)
	}
	fmt.Fprint(c, "ta")
	f.wantAnswer(c, http.StatusAccepted)
	f.wantStored(1)
}

func TestChannelRemovedWhileItsEventIsSentIs404(t *testing.T) {
	t.Parallel()
	f := newFixture(t).serve()
	c := f.dial()
	fmt.Fprint(c, head+"Content-Length: 4\r\n\r\nda")
	f.eventually("the body to be read", func() bool { return f.budget.Used() > 0 })
	f.apply()
	fmt.Fprint(c, "ta")
	f.wantAnswer(c, http.StatusNotFound)
	f.wantStored(0)
	f.wantBudgetFree()
}

func TestPublishUnderWayHoldsTheTable(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, g.around).serve()
	c := f.dial()
	fmt.Fprint(c, head+"Content-Length: 4\r\n\r\ndata")
	wait(t, "the publish", g.came)
	epoch := f.apply()
	if got := f.dispatcher.Observed(); got >= epoch {
		t.Errorf("observed is %d with a publish under way by the table before %d", got, epoch)
	}
	close(g.open)
	f.wantAnswer(c, http.StatusAccepted)
	f.eventually("the table to be let go", func() bool { return f.dispatcher.Observed() == epoch })
}

func (f *fixture) wantAnswer(c io.Reader, status int) {
	f.t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		f.t.Fatal(err)
	}
	read(f.t, res).want(f.t, status, "")
}

// Many at once, each with a body of its own: none gets another's bytes, though
// buffers are used again.
func TestConcurrentPostsDoNotMix(t *testing.T) {
	t.Parallel()
	const clients, each = 8, 25
	f := newFixture(t).serve()
	seen := f.subscribe()
	var posts sync.WaitGroup
	for c := range clients {
		posts.Go(func() {
			for i := range each {
				n := c*each + i
				body := strings.Repeat(strconv.Itoa(n)+" ", n+1)
				res, err := client.Do(request(context.Background(), f.url, body, with("ce-id", strconv.Itoa(n))))
				if err != nil {
					t.Error(err)
					return
				}
				if a := read(t, res); a.status != http.StatusAccepted {
					t.Errorf("event %d: %d %s", n, a.status, a.text)
				}
			}
		})
	}
	got := make(map[string]bool)
	for range clients * each {
		d := seen.next(t)
		id := d.header.Get("ce-id")
		n, err := strconv.Atoi(id)
		if err != nil || d.body != strings.Repeat(id+" ", n+1) {
			t.Errorf("event %s has the body %.40q of %d bytes", id, d.body, len(d.body))
		}
		if got[id] {
			t.Errorf("event %s came twice", id)
		}
		got[id] = true
	}
	posts.Wait()
	f.wantBudgetFree()
}

// It has sent all and closed its half: net/http takes that for a client that has
// gone, and would answer 200 for an event that was not stored.
func TestClientThatClosesItsHalfIsNotToldThatItsEventWasAccepted(t *testing.T) {
	t.Parallel()
	g := newGate()
	f := newFixture(t, g.around).serve()
	c := f.dial()
	fmt.Fprint(c, head+"Content-Length: 4\r\n\r\ndata")
	wait(t, "the publish", g.came)
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if onNetHTTP() {
		f.wantStatus(c, http.StatusServiceUnavailable)
		f.wantStored(0)
		return
	}
	close(g.open)
	f.wantStatus(c, http.StatusAccepted)
	f.wantStored(1)
}
