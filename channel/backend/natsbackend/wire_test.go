package natsbackend

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// script is a connection that reads in pieces of the given sizes, in turn, and
// keeps what is written.
type script struct {
	net.Conn
	in     []byte
	pieces []byte
	turn   int
	out    bytes.Buffer
}

func (s *script) piece() int {
	if len(s.pieces) == 0 {
		return 1 << 20
	}
	s.turn++
	return 1 + int(s.pieces[s.turn%len(s.pieces)])
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.in[:min(s.piece(), len(s.in))])
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) { return s.out.Write(p) }

// received is all that the library gets of what a server sends.
func received(in string, pieces []byte) (string, error) {
	w := &wire{Conn: &script{in: []byte(in), pieces: pieces}, records: true}
	out, err := io.ReadAll(w) // in reads of many sizes
	return string(out), err
}

// sent is all that a server gets of what the library writes.
func sent(in string, pieces []byte) string {
	s := &script{pieces: pieces}
	w := &wire{Conn: s, records: true}
	for in != "" {
		n := min(s.piece(), len(in))
		if m, err := w.Write([]byte(in[:n])); m != n || err != nil {
			return "short"
		}
		in = in[n:]
	}
	return s.out.String()
}

const (
	fromServer = "INFO {\"server_id\":\"x\"}\r\n" +
		"PING\r\n" +
		"HMSG log.A 12 $JS.ACK.s-00.c.1.2.3.4.5 16 21\r\nNATS/1.0\r\na:b\r\n\r\nHMSG \r\n" +
		"MSG log.A 12 $JS.ACK.s-00.c.1.2.3.4.5 7\r\nHMSG a \r\n" +
		"HMSG _INBOX.x 3 30 30\r\nNATS/1.0 404 No Messages\r\n\r\n  \r\n" +
		"HMSG _INBOX.x 3 other.reply 16 16\r\nNATS/1.0\r\na:b\r\n\r\n\r\n" +
		"MSG _INBOX.x 3 0\r\n\r\n" +
		"-ERR 'Permissions Violation for Publish to \"x\"'\r\n" +
		"HMSG log.A 12 $JS.ACK.s-00.c.1.2.3.4.5 12 12\r\nNATS/1.0\r\n\r\n\r\n" +
		"PONG\r\n"
	toLibrary = "INFO {\"server_id\":\"x\"}\r\n" +
		"PING\r\n" +
		"MSG  |og.A 12 $JS.ACK.s-00.c.1.2.3.4.5    21\r\nNATS/1.0\r\na:b\r\n\r\nHMSG \r\n" +
		"MSG log.A 12 $JS.ACK.s-00.c.1.2.3.4.5 7\r\nHMSG a \r\n" +
		"HMSG _INBOX.x 3 30 30\r\nNATS/1.0 404 No Messages\r\n\r\n  \r\n" +
		"HMSG _INBOX.x 3 other.reply 16 16\r\nNATS/1.0\r\na:b\r\n\r\n\r\n" +
		"MSG _INBOX.x 3 0\r\n\r\n" +
		"-ERR 'Permissions Violation for Publish to \"x\"'\r\n" +
		"MSG  |og.A 12 $JS.ACK.s-00.c.1.2.3.4.5    12\r\nNATS/1.0\r\n\r\n\r\n" +
		"PONG\r\n"

	fromLibrary = "CONNECT {\"verbose\":false}\r\nPING\r\n" +
		"SUB _INBOX.y.*  1\r\n" +
		"PUB log.A _INBOX.y.1|16 21\r\nNATS/1.0\r\na:b\r\n\r\nPUB a\r\n" +
		"PUB log.A _INBOX.y.2 9\r\nPUB a b|1\r\n" +
		"HPUB cat.A _INBOX.z 16 21\r\nNATS/1.0\r\na:b\r\n\r\nPUB a\r\n" +
		"PUB $JS.ACK.s 4\r\n+ACK\r\n" +
		"PUB log.A _INBOX.y.3|16 16\r\nNATS/1.0\r\na:b\r\n\r\n\r\n" +
		"UNSUB 1 \r\nPONG\r\n"
	toServer = "CONNECT {\"verbose\":false}\r\nPING\r\n" +
		"SUB _INBOX.y.*  1\r\n" +
		"HPUB log.A _INBOX.y.1 16 21\r\nNATS/1.0\r\na:b\r\n\r\nPUB a\r\n" +
		"PUB log.A _INBOX.y.2 9\r\nPUB a b|1\r\n" +
		"HPUB cat.A _INBOX.z 16 21\r\nNATS/1.0\r\na:b\r\n\r\nPUB a\r\n" +
		"PUB $JS.ACK.s 4\r\n+ACK\r\n" +
		"HPUB log.A _INBOX.y.3 16 16\r\nNATS/1.0\r\na:b\r\n\r\n\r\n" +
		"UNSUB 1 \r\nPONG\r\n"
)

func TestWireChangesRecordsAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, pieces := range [][]byte{nil, {0}, {1}, {2}, {6, 0, 40}, {30}, {255}} {
		got, err := received(fromServer, pieces)
		if err != nil || got != toLibrary {
			t.Errorf("pieces %v: received\n%q, %v, want\n%q", pieces, got, err, toLibrary)
		}
		if got := sent(fromLibrary, pieces); got != toServer {
			t.Errorf("pieces %v: sent\n%q, want\n%q", pieces, got, toServer)
		}
	}
}

func TestWireDoesNotWriteIntoWhatItIsGiven(t *testing.T) {
	t.Parallel()
	in := []byte(fromLibrary)
	w := &wire{Conn: new(script), records: true}
	if _, err := w.Write(in); err != nil {
		t.Fatal(err)
	}
	if string(in) != fromLibrary {
		t.Errorf("Write changed its argument to\n%q", in)
	}
}

// The library would give up for ever.
func TestWireEndsAConnectionThatTheServerEnds(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"Maximum Payload Violation", "Parser Error", "whatever comes next"} {
		_, err := received("PING\r\n-ERR '"+text+"'\r\n", nil)
		if !errors.Is(err, errServer) || !strings.Contains(err.Error(), strings.ToLower(text)) {
			t.Errorf("%s: %v, want errServer with the text", text, err)
		}
	}
}

func TestWireDoesNotHoldALineWithoutAnEnd(t *testing.T) {
	t.Parallel()
	if _, err := received("MSG "+strings.Repeat("a", 2*wireRead), []byte{200}); !errors.Is(err, errLine) {
		t.Errorf("%v, want errLine", err)
	}
}

// FuzzWire: however a stream is cut into pieces, the outcome is the same, and as
// long as what came in; what the library sends gets longer by what is added.
func FuzzWire(f *testing.F) {
	f.Add(fromServer, []byte{3, 1})
	f.Add(fromLibrary, []byte{0})
	f.Add("HMSG a 1 $JS.ACK. 0 \r\n", []byte{7})
	f.Add("HMSG  1 \r\nMSG a 1 99999999999999999999\r\nPUB | 1\r\n", []byte{7})
	f.Fuzz(func(t *testing.T, in string, pieces []byte) {
		if len(in) > maxLine {
			return // longer lines may or may not be refused
		}
		whole, err := received(in, nil)
		if err == nil {
			again, err := received(in, pieces)
			if err != nil || again != whole {
				t.Fatalf("in pieces: %q, %v; at once: %q", again, err, whole)
			}
			if n := len(in); len(whole) > n {
				t.Fatalf("%d bytes came of %d", len(whole), n)
			}
		}
		if a, b := sent(in, nil), sent(in, pieces); a != b {
			t.Fatalf("in pieces: %q, at once: %q", b, a)
		}
	})
}
