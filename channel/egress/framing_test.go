package egress

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
)

const ceHead = "ce-specversion: 1.0\r\nce-id: reply\r\nce-source: /r\r\nce-type: r\r\n"

func TestWaysToFrameAnAnswer(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"content length":     "HTTP/1.1 200 OK\r\n" + ceHead + "Content-Length: 4\r\n\r\ndata",
		"chunked":            "HTTP/1.1 200 OK\r\n" + ceHead + "Transfer-Encoding: chunked\r\n\r\n1;x=y\r\nd\r\n3\r\nata\r\n0\r\nX-Trailer: 1\r\n\r\n",
		"until close":        "HTTP/1.1 200 OK\r\n" + ceHead + "\r\ndata",
		"HTTP/1.0":           "HTTP/1.0 200 OK\r\n" + ceHead + "\r\ndata",
		"HTTP/1.0 length":    "HTTP/1.0 200 OK\r\n" + ceHead + "Content-Length: 4\r\n\r\ndata",
		"connection close":   "HTTP/1.1 200 OK\r\n" + ceHead + "Connection: close\r\nContent-Length: 4\r\n\r\ndata",
		"continue":           "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n" + ceHead + "Content-Length: 4\r\n\r\ndata",
		"many informational": strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 200) + "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n" + ceHead + "Content-Length: 4\r\n\r\ndata",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, tr transport) {
				target := tr.raw(t, func(_ int, c net.Conn, r *bufio.Reader) {
					for readRequest(r) {
						if _, err := io.WriteString(c, text); err != nil {
							return
						}
						if strings.Contains(name, "close") || strings.Contains(name, "1.0") {
							return
						}
					}
				})
				c := newClient(t, Config{})
				for range 3 {
					r := send(t, c, target)
					if r.Err != nil || r.Reply == nil || string(r.Reply.Data) != "data" {
						t.Fatalf("got reply %+v, error %v", r.Reply, r.Err)
					}
				}
			})
		})
	}
}
