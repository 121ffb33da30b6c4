package egress

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Connections belong to hosts: a new table with new paths, or a pause of a
// channel, must not cost them.
func TestConnectionsSurviveNewTargets(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		var conns counter
		base := tr.serve(t, func(_ http.ResponseWriter, r *http.Request) { conns.see(r.RemoteAddr) })
		c := newClient(t, Config{})
		for _, path := range []string{"/a", "/b", "/c?d", ""} {
			wantDelivered(t, send(t, c, &Target{URL: base.URL + path, CACerts: base.CACerts}))
		}
		if n := conns.count(); n != 1 {
			t.Errorf("%d connections for 4 URLs of a host, want 1", n)
		}
	})
}

func TestMaxConnsPerHostBoundsAttemptsUnderWay(t *testing.T) {
	t.Parallel()
	const limit, attempts = 3, 20
	onBoth(t, func(t *testing.T, tr transport) {
		var now, most atomic.Int64
		full, release := make(chan struct{}, attempts), make(chan struct{})
		target := tr.serve(t, func(_ http.ResponseWriter, _ *http.Request) {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			full <- struct{}{}
			<-release
		})
		c := newClient(t, Config{MaxConnsPerHost: limit})
		var wg sync.WaitGroup
		for range attempts {
			wg.Go(func() {
				if r := c.Send(context.Background(), request(target), Binary, patience); r.Err != nil {
					t.Errorf("attempt: %v", r.Err)
				}
			})
		}
		for range limit {
			wait(t, full, "the first attempts")
		}
		close(release)
		wg.Wait()
		if most.Load() > limit {
			t.Errorf("%d attempts at once, want at most %d", most.Load(), limit)
		}
	})
}

// Waiting for a place counts against the attempt's timeout, and ends with its
// context.
func TestWaitForAPlaceEnds(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		target, arrived, _ := tr.silent(t)
		c := newClient(t, Config{MaxConnsPerHost: 1})
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() { c.Send(ctx, request(target), Binary, time.Hour) })
		wait(t, arrived, "the first request")
		wantNoAnswer(t, c.Send(context.Background(), request(target), Binary, 10*time.Millisecond))
		second, end := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer end()
		r := c.Send(second, request(target), Binary, time.Hour)
		wantNoAnswer(t, r)
		if !errors.Is(r.Err, context.DeadlineExceeded) {
			t.Errorf("error %v", r.Err)
		}
	})
}

func TestIdleConnectionsAreReaped(t *testing.T) {
	t.Parallel()
	target := transport{}.serve(t, func(http.ResponseWriter, *http.Request) {})
	c := newClient(t, Config{})
	wantDelivered(t, send(t, c, target))
	if p := c.pools[poolKey(t, c)]; len(p.idle) != 1 {
		t.Fatalf("%d idle connections, want 1", len(p.idle))
	}
	c.reapBefore(time.Now().Add(-time.Hour))
	if len(c.pools) != 1 || len(c.endpoints) != 1 {
		t.Fatalf("%d pools and %d endpoints after an early look, want 1 and 1", len(c.pools), len(c.endpoints))
	}
	for range 2 { // the first closes connections, the second forgets the host
		c.reapBefore(time.Now().Add(time.Hour))
	}
	if len(c.pools) != 0 || len(c.endpoints) != 0 {
		t.Errorf("%d pools and %d endpoints are left", len(c.pools), len(c.endpoints))
	}
	wantDelivered(t, send(t, c, target))
}

func poolKey(t *testing.T, c *Client) string {
	t.Helper()
	for addr := range c.pools {
		return addr
	}
	t.Fatal("no pool")
	return ""
}

func TestCloseWhileSending(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		arrived, release := make(chan struct{}, 1), make(chan struct{})
		target := tr.serve(t, func(w http.ResponseWriter, _ *http.Request) {
			arrived <- struct{}{}
			<-release
			reply(w, 200, "data")
		})
		c := New(Config{})
		results := make(chan Result, 1)
		go func() { results <- c.Send(context.Background(), request(target), Binary, patience) }()
		wait(t, arrived, "the request")
		c.Close()
		c.Close() // twice is once
		if r := send(t, c, target); !errors.Is(r.Err, ErrClosed) {
			t.Errorf("an attempt after Close: %v, want ErrClosed", r.Err)
		}
		if r := send(t, c, &Target{URL: target.URL + "/new", CACerts: target.CACerts}); !errors.Is(r.Err, ErrClosed) {
			t.Errorf("a new target after Close: %v, want ErrClosed", r.Err)
		}
		close(release)
		if r := wait(t, results, "the result"); r.Err != nil || r.Reply == nil {
			t.Errorf("the attempt under way: reply %v, error %v", r.Reply, r.Err)
		}
	})
}

// An attempt that had passed the door as the client closed must leave nothing
// behind that nobody will reap.
func TestNoPoolIsMadeAfterClose(t *testing.T) {
	t.Parallel()
	c := New(Config{})
	c.Close()
	if e := c.addEndpoint(Target{URL: "http://127.0.0.1:1/"}); !errors.Is(e.err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", e.err)
	}
	if len(c.pools) != 0 || len(c.endpoints) != 0 {
		t.Errorf("%d pools and %d endpoints", len(c.pools), len(c.endpoints))
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		target := tr.serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Ce-Id") == "fail" {
				http.Error(w, "failed", 500)
				return
			}
			reply(w, 200, r.Header.Get("Ce-Id"))
		})
		c := newClient(t, Config{MaxConnsPerHost: 4})
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var wg sync.WaitGroup
		for _, id := range []string{"a", "b", "c", "d", "e", "fail", "f", "g"} {
			wg.Go(func() {
				for range 100 {
					req := request(target)
					req.Event.ID = id
					r := c.Send(ctx, req, Binary, patience)
					if id == "fail" {
						if r.Status != 500 || string(r.Body) != "failed\n" {
							t.Errorf("got status %d, body %q, error %v", r.Status, r.Body, r.Err)
						}
					} else if r.Reply == nil || string(r.Reply.Data) != id {
						t.Errorf("%s: got reply %+v, error %v", id, r.Reply, r.Err)
					}
				}
			})
		}
		wg.Wait()
	})
}
