package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLinesAreWholeHoweverTheyCome(t *testing.T) {
	t.Parallel()
	var got []string
	w := &lines{emit: func(l string) { got = append(got, l) }}
	for _, p := range []string{"a", "b\nc\r\n", "\n", "", "d", "\ne"} {
		if n, err := io.WriteString(w, p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := []string{"ab", "c", "", "d"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWhereThereIsNoTerminalNothingMovesAndNothingIsColoured(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("CI", "")
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, w := range []io.Writer{new(bytes.Buffer), file, null} {
		if s := newScreen(w, false); s.live || s.colour || s.ascii {
			t.Errorf("%T: got %+v", w, s)
		}
	}
	var b bytes.Buffer
	s := newScreen(&b, true)
	task := s.task("boil water")
	task.note("bubbles")
	task.end(nil)
	again := s.task("boil more")
	again.end(errors.New("no gas"))
	if got := b.String(); strings.ContainsAny(got, "\r\x1b") || !strings.Contains(got, "ok boil water") || !strings.Contains(got, "failed boil more") {
		t.Errorf("printed %q", got)
	}
}

func TestTheLineOfATaskIsDrawnOverAndLeftDone(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	s := &screen{w: &b, live: true, style: style{colour: true}}
	task := s.task("boil water")
	task.note(strings.Repeat("ü", 100))
	task.draw(3)
	task.end(nil)
	last := b.String()[strings.LastIndex(b.String(), "\r\x1b[K"):]
	if strings.Count(b.String(), "\n") != 1 || !strings.HasSuffix(last, "\n") || !strings.Contains(last, "✓") {
		t.Errorf("printed %q", b.String())
	}
}
