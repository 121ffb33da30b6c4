package natsbackend

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
)

// wire is a connection to a server as the client library has it. It passes on
// what either side sends, but for the header blocks of records, which the
// library would have to encode from maps and decode into maps. To the library a
// record is a message without headers, whose payload begins with them:
//
//	library                                       wire     server
//	PUB <subject> <reply>|<headers> <size>        ---->    HPUB <subject> <reply> <headers> <size>
//	MSG |<subject, less a byte> <sid> $JS.ACK.… <size>  <--  HMSG <subject> <sid> $JS.ACK.… <headers> <size>
//
// All other messages, such as what the broker says of a request, are left alone.
// The lines are those of the NATS client protocol.
type wire struct {
	net.Conn
	records bool // travel on it; else nothing is changed

	// For Read, which one goroutine at a time calls.
	ready []byte // what has come and was not asked for yet
	held  []byte // the beginning of a line of which the rest has not come
	in    progress

	// For Write, likewise.
	part []byte
	out  []byte
	sent progress
}

// progress is how far one direction is in what was looked at.
type progress struct {
	skip   int  // bytes of a payload that are still to come
	inLine bool // in the middle of a line that says nothing to us
}

const (
	// mark sets apart the subjects and replies that wire changes. No subject
	// of ours, of the broker or of the library holds it.
	mark = '|'
	// maxLine bounds a line that announces a message (the server's default
	// for max_control_line is 4 KiB), and wireRead is what Read reads at least.
	maxLine  = 8 << 10
	wireRead = 16 << 10
	// keepOut is the most that is kept of a buffer for the next Write.
	keepOut = 256 << 10
)

var (
	errLine   = errors.New("a line of the NATS protocol is too long")
	errServer = errors.New("the server ends the connection")
	ackPrefix = []byte("$JS.ACK.")
)

// Read implements net.Conn.
func (w *wire) Read(p []byte) (int, error) {
	if len(w.ready) > 0 {
		n := copy(p, w.ready)
		w.ready = w.ready[n:]
		return n, nil
	}
	buf := p
	if len(p) < wireRead {
		buf = make([]byte, wireRead) // the library does so at most when it connects
	}
	n := copy(buf, w.held)
	for {
		m, err := w.Conn.Read(buf[n:])
		n += m
		done, failure := w.receive(buf[:n])
		if failure != nil {
			return 0, failure
		}
		if done == 0 && err == nil {
			if n > maxLine {
				return 0, errLine
			}
			continue
		}
		w.held = append(w.held[:0], buf[done:n]...)
		if len(p) < len(buf) {
			w.ready = buf[:done]
			done = copy(p, w.ready)
			w.ready = w.ready[done:]
		}
		return done, err
	}
}

// receive looks through what came and changes it where it stands. It returns how
// much of it is complete.
func (w *wire) receive(b []byte) (int, error) {
	s := &w.in
	for at := 0; ; {
		if s.skip > 0 {
			n := min(s.skip, len(b)-at)
			s.skip -= n
			at += n
		}
		if at == len(b) {
			return at, nil
		}
		end := bytes.IndexByte(b[at:], '\n')
		if end < 0 {
			if !s.inLine && looksAt(b[at]) {
				return at, nil
			}
			s.inLine = true
			return len(b), nil
		}
		line := b[at : at+end+1]
		at += len(line)
		if s.inLine {
			s.inLine = false
			continue
		}
		switch line[0] {
		case 'M':
			s.skip = payload(line)
		case 'H':
			if s.skip = payload(line); w.records {
				unhead(line)
			}
		case '-':
			if err := fatal(line); err != nil {
				return 0, err
			}
		}
	}
}

// looksAt: MSG, HMSG and -ERR are looked at.
func looksAt(c byte) bool { return c == 'M' || c == 'H' || c == '-' }

// payload is what follows a line that announces a message, in bytes.
func payload(line []byte) int {
	end := len(bytes.TrimRight(line, " \t\r\n"))
	n := 0
	for _, c := range line[lastField(line[:end]):end] {
		if c < '0' || c > '9' || n > 1<<30 {
			return 0 // the library says what is wrong
		}
		n = 10*n + int(c-'0')
	}
	return n + len(newline)
}

// lastField is where the last field of a line begins that has no space behind it.
func lastField(line []byte) int { return bytes.LastIndexByte(line, ' ') + 1 }

// unhead makes an HMSG line that brings a record a MSG line.
func unhead(line []byte) {
	total := lastField(bytes.TrimRight(line, " \r\n"))
	size := lastField(bytes.TrimRight(line[:total], " "))
	reply := line[:size]
	reply = reply[lastField(bytes.TrimRight(reply, " ")):]
	if !bytes.HasPrefix(line, []byte("HMSG ")) || !bytes.HasPrefix(reply, ackPrefix) {
		return
	}
	for i := size; i < total; i++ {
		line[i] = ' '
	}
	copy(line, "MSG  ")
	line[5] = mark
}

// fatal is an error that the server ends the connection with, unless the library
// goes on or connects again after it: it would give up.
func fatal(line []byte) error {
	text := strings.ToLower(strings.Trim(strings.TrimPrefix(string(line), "-ERR"), " '\r\n"))
	for _, known := range []string{
		"stale connection", "maximum connections exceeded", "maximum account active connections exceeded",
		"unknown protocol operation", "permissions violation", "maximum subscriptions exceeded",
		"authorization violation", "user authentication expired", "user authentication revoked",
		"account authentication expired",
	} {
		if strings.HasPrefix(text, known) {
			return nil
		}
	}
	return fmt.Errorf("%w: %.200s", errServer, text)
}

// Write implements net.Conn. The library writes whole lines and payloads.
func (w *wire) Write(p []byte) (int, error) {
	all := p
	if len(w.part) > 0 {
		all = append(w.part, p...)
		w.part = nil
	}
	out := w.send(all)
	if len(out) == 0 {
		return len(p), nil
	}
	n, err := w.Conn.Write(out)
	if err != nil {
		return min(n, len(p)), err
	}
	if cap(w.out) > keepOut {
		w.out = nil
	}
	return len(p), nil
}

// send returns what goes to the server in the place of b.
func (w *wire) send(b []byte) []byte {
	s := &w.sent
	w.out = w.out[:0]
	from := 0 // b[:from] is in w.out
	for at := 0; ; {
		if s.skip > 0 {
			n := min(s.skip, len(b)-at)
			s.skip -= n
			at += n
		}
		end := bytes.IndexByte(b[at:], '\n')
		if end < 0 {
			w.part = append(w.part, b[at:]...)
			b = b[:at]
			break
		}
		line := b[at : at+end+1]
		at += len(line)
		switch {
		case line[0] == 'H':
			s.skip = payload(line)
		case bytes.HasPrefix(line, []byte("PUB ")):
			s.skip = payload(line)
			if i := bytes.IndexByte(line, mark); i >= 0 && w.records {
				w.out = append(append(w.out, b[from:at-len(line)]...), 'H')
				w.out = append(w.out, line...)
				w.out[len(w.out)-len(line)+i] = ' '
				from = at
			}
		}
	}
	if from == 0 {
		return b
	}
	w.out = append(w.out, b[from:]...)
	return w.out
}
