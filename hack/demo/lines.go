package main

import (
	"bytes"
	"strings"
	"sync"
)

// lines is an io.Writer that hands on whole lines. It belongs to one goroutine.
type lines struct {
	emit func(line string)
	rest []byte
}

// maxLine bounds what is kept of a line without an end.
const maxLine = 1 << 20

func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for {
		head, tail, ended := bytes.Cut(p, []byte{'\n'})
		if room := maxLine - len(l.rest); len(head) > room {
			head = head[:room]
		}
		l.rest = append(l.rest, head...)
		if !ended {
			return n, nil
		}
		line := strings.TrimSuffix(string(l.rest), "\r")
		l.rest, p = l.rest[:0], tail
		l.emit(line)
	}
}

// tail keeps the last lines that were added, from any goroutine.
type tail struct {
	mu    sync.Mutex
	lines []string
}

const maxTail = 12

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == maxTail {
		t.lines = append(t.lines[:0], t.lines[1:]...)
	}
	t.lines = append(t.lines, line)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return ""
	}
	return "\n  | " + strings.Join(t.lines, "\n  | ")
}
