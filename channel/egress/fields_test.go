package egress

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestFieldsOfAnAnswerAreGiven(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		for _, status := range []string{"200 OK", "503 Service Unavailable"} {
			target := tr.raw(t, answers("HTTP/1.1 "+status+"\r\nX-One: 1\r\nx-two: 2 b\r\n"+ceHead+"Content-Length: 4\r\n\r\ndata"))
			req := request(target)
			req.Fields = []string{"x-two", "x-one", "x-none"}
			r := newClient(t, Config{}).Send(context.Background(), req, Binary, patience)
			if len(r.Fields) != 3 || r.Fields[0] != "2 b" || r.Fields[1] != "1" || r.Fields[2] != "" {
				t.Errorf("%s: fields %q, error %v", status, r.Fields, r.Err)
			}
		}
	})
}

func TestWhatStandsBeforeAnEventIsTakenOff(t *testing.T) {
	t.Parallel()
	const body = "before" + "data"
	framings := map[string]string{
		"length":  "Content-Length: 10\r\n\r\n" + body,
		"chunked": "Transfer-Encoding: chunked\r\n\r\n3\r\nbef\r\n7\r\noredata\r\n0\r\n\r\n",
	}
	onBoth(t, func(t *testing.T, tr transport) {
		for name, framing := range framings {
			req := request(tr.raw(t, answers("HTTP/1.1 200 OK\r\nx-before: 6\r\n"+ceHead+framing)))
			req.Fields = []string{"x-before"}
			req.Before = func(fields []string) int {
				n, err := strconv.Atoi(fields[0])
				if err != nil {
					t.Error(err)
				}
				return n
			}
			c := newClient(t, Config{})
			for range 2 { // the connection can be used again
				r := c.Send(context.Background(), req, Binary, patience)
				if r.Err != nil || string(r.Before) != "before" || r.Reply == nil || string(r.Reply.Data) != "data" {
					t.Errorf("%s: before %q, reply %v, error %v", name, r.Before, r.Reply, r.Err)
				}
			}
		}
	})
}

func TestAnAnswerCutBeforeItsEventIsNone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		req := request(tr.raw(t, func(_ int, c net.Conn, r *bufio.Reader) {
			if readRequest(r) {
				io.WriteString(c, "HTTP/1.1 200 OK\r\n"+ceHead+"Content-Length: 10\r\n\r\nbef") //nolint:errcheck // see the result
			}
		}))
		req.Before = func([]string) int { return 6 }
		wantNoAnswer(t, newClient(t, Config{}).Send(context.Background(), req, Binary, patience))
	})
}

// A peer that is silent for longer than Quiet is given up long before the timeout,
// and one that gives signs of life is not.
func TestSilenceEndsAnAttemptAndSignsOfLifeDoNot(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		target, _, gone := tr.silent(t)
		req := request(target)
		req.Quiet = 100 * time.Millisecond
		wantNoAnswer(t, newClient(t, Config{}).Send(context.Background(), req, Binary, time.Hour))
		wait(t, gone, "the request to be cancelled")

		req = request(tr.raw(t, func(_ int, c net.Conn, r *bufio.Reader) {
			if !readRequest(r) {
				return
			}
			for range 30 {
				io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\n") //nolint:errcheck // see the result
				time.Sleep(50 * time.Millisecond)                    // the pace of a server, not a wait
			}
			io.WriteString(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n") //nolint:errcheck // see the result
		}))
		req.Quiet = time.Second
		wantDelivered(t, newClient(t, Config{}).Send(context.Background(), req, Binary, patience))
	})
}

func TestARefusedConnectionIsToldFromOneThatBroke(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	for _, scheme := range []string{"http", "https"} {
		r := send(t, newClient(t, Config{}), &Target{URL: scheme + "://" + addr})
		if !errors.Is(r.Err, ErrDial) {
			t.Errorf("%s: %v, want ErrDial", scheme, r.Err)
		}
	}
	onBoth(t, func(t *testing.T, tr transport) {
		var host string
		target := tr.raw(t, func(n int, c net.Conn, r *bufio.Reader) {
			if readRequest(r) && n == 1 {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") //nolint:errcheck // see the result
				readRequest(r)
			}
		})
		host = strings.SplitN(target.URL, "://", 2)[1]
		c := newClient(t, Config{})
		wantDelivered(t, send(t, c, target))
		if r := send(t, c, target); r.Err == nil || errors.Is(r.Err, ErrDial) {
			t.Errorf("%s: %v, want an error that is not ErrDial", host, r.Err)
		}
	})
}
