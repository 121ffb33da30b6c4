package egress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A process that dies in the middle of an answer has not answered.
func TestAnswerCutShortIsNeverASuccess(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"nothing":         "",
		"status line":     "HTTP/1.1 200 OK",
		"header":          "HTTP/1.1 200 OK\r\n" + ceHead,
		"no body":         "HTTP/1.1 200 OK\r\n" + ceHead + "Content-Length: 4\r\n\r\n",
		"half a body":     "HTTP/1.1 200 OK\r\n" + ceHead + "Content-Length: 4\r\n\r\nda",
		"no chunk":        "HTTP/1.1 200 OK\r\n" + ceHead + "Transfer-Encoding: chunked\r\n\r\n",
		"half a chunk":    "HTTP/1.1 200 OK\r\n" + ceHead + "Transfer-Encoding: chunked\r\n\r\n4\r\nda",
		"no last chunk":   "HTTP/1.1 200 OK\r\n" + ceHead + "Transfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n",
		"accepted":        "HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\n\r\nda",
		"informational":   "HTTP/1.1 102 Processing\r\n\r\n",
		"error":           "HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\nda",
		"chunk of error":  "HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nda",
		"not HTTP":        "SSH-2.0-OpenSSH\r\n\r\n",
		"status of 4":     "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
		"endless heading": "HTTP/1.1 200 OK\r\nX: " + string(bytes.Repeat([]byte("x"), 64<<10)),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, tr transport) {
				target := tr.raw(t, func(_ int, c net.Conn, r *bufio.Reader) {
					if readRequest(r) {
						io.WriteString(c, text) //nolint:errcheck // the client may have seen enough
					}
				})
				wantNoAnswer(t, send(t, newClient(t, Config{}), target))
			})
		})
	}
}

func TestNobodyListening(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c := newClient(t, Config{})
	for _, scheme := range []string{"http://", "https://"} {
		wantNoAnswer(t, send(t, c, &Target{URL: scheme + addr}))
	}
}

func TestUntrustedCertificateIsNotSentTo(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	target := transport{secure: true}.serve(t, func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	target.CACerts = ""
	wantNoAnswer(t, send(t, newClient(t, Config{}), target))
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

func TestTargetThatIsNone(t *testing.T) {
	t.Parallel()
	c := newClient(t, Config{})
	for _, target := range []Target{
		{},
		{URL: "/path"},
		{URL: "ftp://x/"},
		{URL: "http://"},
		{URL: "http://a b/"},
		{URL: ":"},
		{URL: "https://127.0.0.1/", CACerts: "no PEM"},
	} {
		for range 2 { // the second answer is remembered
			if r := send(t, c, &target); !errors.Is(r.Err, ErrTarget) || r.Status != 0 {
				t.Errorf("%+v: got status %d, error %v, want ErrTarget", target, r.Status, r.Err)
			}
		}
	}
}

// silent reads requests and does not answer. gone gets a value when the client
// hangs up.
func (tr transport) silent(t *testing.T) (target *Target, arrived, gone <-chan struct{}) {
	t.Helper()
	a, g := make(chan struct{}, 16), make(chan struct{}, 16)
	return tr.raw(t, func(_ int, _ net.Conn, r *bufio.Reader) {
		if readRequest(r) {
			a <- struct{}{}
			r.ReadByte() //nolint:errcheck // any way to end is one
			g <- struct{}{}
		}
	}), a, g
}

func TestTimeoutEndsTheAttemptAndTheStepsRequest(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		target, _, gone := tr.silent(t)
		r := newClient(t, Config{}).Send(context.Background(), request(target), Binary, 200*time.Millisecond)
		wantNoAnswer(t, r)
		var timeout net.Error
		if !errors.As(r.Err, &timeout) || !timeout.Timeout() {
			t.Errorf("error %v is no timeout", r.Err)
		}
		wait(t, gone, "the request to be cancelled")
	})
}

// Informational responses keep a connection alive, not an attempt.
func TestTimeoutIsNotPutOffByInformationalResponses(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		target := tr.raw(t, func(_ int, c net.Conn, r *bufio.Reader) {
			for readRequest(r) {
				for {
					if _, err := io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\n"); err != nil {
						return
					}
					time.Sleep(time.Millisecond) // the pace of a server, not a wait
				}
			}
		})
		wantNoAnswer(t, newClient(t, Config{}).Send(context.Background(), request(target), Binary, 100*time.Millisecond))
	})
}

func TestCancelEndsTheAttemptAndTheStepsRequest(t *testing.T) {
	t.Parallel()
	cause := errors.New("subscription removed")
	onBoth(t, func(t *testing.T, tr transport) {
		target, arrived, gone := tr.silent(t)
		ctx, cancel := context.WithCancelCause(context.Background())
		results := make(chan Result, 1)
		c := newClient(t, Config{})
		go func() { results <- c.Send(ctx, request(target), Binary, time.Hour) }()
		wait(t, arrived, "the request")
		cancel(cause)
		r := wait(t, results, "the result")
		wantNoAnswer(t, r)
		if !errors.Is(r.Err, cause) {
			t.Errorf("error %v does not say why", r.Err)
		}
		wait(t, gone, "the request to be cancelled")
		if r := c.Send(ctx, request(target), Binary, time.Hour); !errors.Is(r.Err, cause) {
			t.Errorf("after the end of the context: error %v", r.Err)
		}
	})
}

// A cancelled attempt must not hit the one that uses its connection next.
func TestCancelDoesNotTouchOtherAttempts(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		target := tr.serve(t, func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, "data") })
		c := newClient(t, Config{})
		for range 50 {
			ctx, cancel := context.WithCancel(context.Background())
			if r := c.Send(ctx, request(target), Binary, patience); r.Err != nil {
				t.Fatal(r.Err)
			}
			var wg sync.WaitGroup
			wg.Go(cancel)
			if r := send(t, c, target); r.Err != nil {
				t.Errorf("the next attempt: %v", r.Err)
			}
			wg.Wait()
		}
	})
}

// Whether the server closes before the second request comes or as it comes, the
// event was not answered for a reason of its own: with no retries left it would
// be dead-lettered.
func TestKeptConnectionClosedByTheServerIsNotAFailure(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	ways := map[string]func(r *bufio.Reader){
		"idle":      func(*bufio.Reader) {},
		"in use":    func(r *bufio.Reader) { r.ReadByte() },   //nolint:errcheck // closed next
		"after all": func(r *bufio.Reader) { readRequest(r) }, // read, never answered
	}
	for name, second := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, tr transport) {
				closed := make(chan struct{})
				target := tr.raw(t, func(n int, c net.Conn, r *bufio.Reader) {
					if n > 1 {
						answers(ok)(n, c, r)
						return
					}
					if !readRequest(r) {
						return
					}
					io.WriteString(c, ok) //nolint:errcheck // see the result
					if name == "idle" {
						c.Close()
						close(closed)
						return
					}
					second(r)
				})
				c := newClient(t, Config{})
				wantDelivered(t, send(t, c, target))
				if name == "idle" {
					<-closed
				}
				wantDelivered(t, send(t, c, target))
			})
		})
	}
}

// The event is sent once more, and not for ever.
func TestServerThatClosesEveryConnectionIsAFailure(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		var requests atomic.Int64
		target := tr.raw(t, func(n int, c net.Conn, r *bufio.Reader) {
			if readRequest(r) && n == 1 {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") //nolint:errcheck // see the result
				readRequest(r)
			}
			requests.Add(1)
		})
		c := newClient(t, Config{})
		wantDelivered(t, send(t, c, target))
		wantNoAnswer(t, send(t, c, target))
		if n := requests.Load(); n > 2 {
			t.Errorf("%d connections were closed on us, want at most 2", n)
		}
	})
}

// 413 and 401 come before the body was read, and the connection closes.
func TestEarlyAnswerToALargeEventCounts(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		target := tr.serve(t, func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		})
		req := request(target)
		req.Event.Data = make([]byte, 32<<20)
		r := newClient(t, Config{}).Send(context.Background(), req, Binary, patience)
		if r.Status != 413 || Retryable(r) {
			t.Errorf("got status %d, error %v, want 413", r.Status, r.Err)
		}
	})
}

// What follows an answer on the wire is nobody's answer. The filling makes it
// begin where the client's next read would.
func TestBytesBehindAnAnswerAreNotTheNextAnswer(t *testing.T) {
	t.Parallel()
	const one = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	const forged = "HTTP/1.1 500 Forged\r\nContent-Length: 0\r\n\r\n"
	filling := strings.Repeat("x", readerSize-len(one))
	// net/http sees such bytes on a connection that is idle, and only then: whether a
	// request comes first is a race that it does not mind.
	lean := transports[0]
	target := lean.raw(t, func(n int, c net.Conn, r *bufio.Reader) {
		if n == 1 {
			answers(one+filling+forged)(n, c, r)
			return
		}
		answers(one)(n, c, r)
	})
	c := newClient(t, Config{})
	wantDelivered(t, send(t, c, target))
	wantDelivered(t, send(t, c, target))
}
