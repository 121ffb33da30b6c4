package egress

import (
	"bufio"
	"context"
	"io"
	"net"
	"testing"
)

const benchAnswer = "HTTP/1.1 200 OK\r\nce-specversion: 1.0\r\nce-id: reply\r\nce-source: /r\r\nce-type: r\r\n" +
	"Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}"

// trivial answers without looking, and allocates nothing as it does so: what
// is measured is the client.
func trivial(_ int, c net.Conn, r *bufio.Reader) {
	for {
		for blank := false; !blank; {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			blank = len(line) == 2
		}
		if _, err := r.Discard(len(`{"a":1}`)); err != nil {
			return
		}
		if _, err := io.WriteString(c, benchAnswer); err != nil {
			return
		}
	}
}

func BenchmarkSend(b *testing.B) {
	for _, tr := range transports {
		b.Run(tr.name, func(b *testing.B) {
			target := tr.raw(b, trivial)
			c := newClient(b, Config{})
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			req := request(target)
			b.ReportAllocs()
			for b.Loop() {
				if r := c.Send(ctx, req, Binary, patience); r.Reply == nil {
					b.Fatal(r.Err)
				}
			}
		})
	}
}

// The lean client exists for this. The bound is generous: it is to catch a
// change of kind.
func TestLeanAttemptAllocatesLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	c := newClient(t, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req := request(transport{}.raw(t, trivial))
	got := testing.AllocsPerRun(200, func() {
		if r := c.Send(ctx, req, Binary, patience); r.Reply == nil {
			t.Error(r.Err)
		}
	})
	t.Logf("%v allocations an attempt, with its reply", got)
	if got > 12 {
		t.Errorf("%v allocations an attempt, want at most 12", got)
	}
}
