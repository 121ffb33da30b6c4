package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
	"unicode/utf8"
)

// screen is what the demo writes on, as colourful as it may be.
type screen struct {
	style
	live bool // lines may be drawn again

	mu sync.Mutex // guards w
	w  io.Writer
}

// newScreen looks at what w is, and at the environment.
func newScreen(w io.Writer, plain bool) *screen {
	dumb := os.Getenv("TERM") == "dumb"
	terminal := isTerminal(w) && !dumb && !plain && os.Getenv("CI") == ""
	return &screen{
		style: style{
			colour: terminal && os.Getenv("NO_COLOR") == "",
			ascii:  plain || dumb,
		},
		live: terminal,
		w:    w,
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

func (s *screen) printf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.w, format, args...) // nothing to be done about a closed terminal
}

// style makes colours, or none.
type style struct {
	colour bool
	ascii  bool
}

func (s style) paint(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(t string) string   { return s.paint("1", t) }
func (s style) dim(t string) string    { return s.paint("2", t) }
func (s style) red(t string) string    { return s.paint("31", t) }
func (s style) green(t string) string  { return s.paint("32", t) }
func (s style) yellow(t string) string { return s.paint("33", t) }
func (s style) blue(t string) string   { return s.paint("36", t) }

// sign is a character, or what stands for it in ASCII.
func (s style) sign(unicode, ascii string) string {
	if s.ascii {
		return ascii
	}
	return unicode
}

// task is something that takes a while. On a terminal its line moves.
type task struct {
	s     *screen
	what  string
	began time.Time
	stop  chan struct{}
	done  sync.WaitGroup

	mu     sync.Mutex
	detail string
	notes  int
}

// frame is how often the line is drawn.
const frame = 100 * time.Millisecond

// task begins one; it must be ended.
func (s *screen) task(what string) *task {
	t := &task{s: s, what: what, began: time.Now(), stop: make(chan struct{})}
	if !s.live {
		s.printf("  %s ...\n", what)
		return t
	}
	t.done.Go(func() {
		tick := time.NewTicker(frame)
		defer tick.Stop()
		for i := 0; ; i++ {
			t.draw(i)
			select {
			case <-t.stop:
				return
			case <-tick.C:
			}
		}
	})
	return t
}

// note is something that was done for the task.
func (t *task) note(detail string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.detail = detail
	t.notes++
}

func (t *task) draw(i int) {
	t.mu.Lock()
	detail := t.detail
	if t.notes > 0 {
		detail = fmt.Sprintf("%d  %s", t.notes, detail)
	}
	t.mu.Unlock()
	const room = 30 // what does not fit a line would not be drawn over
	if utf8.RuneCountInString(detail) > room {
		detail = string([]rune(detail)[:room-1]) + "…"
	}
	wheel := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	t.s.printf("\r\x1b[K  %s %-32s %8s  %s",
		t.s.blue(string(wheel[i%len(wheel)])), t.what, brief(time.Since(t.began)), t.s.dim(detail))
}

// end draws the line for the last time.
func (t *task) end(err error) {
	close(t.stop)
	t.done.Wait()
	start := ""
	if t.s.live {
		start = "\r\x1b[K"
	}
	mark := t.s.green(t.s.sign("✓", "ok"))
	if err != nil {
		mark = t.s.red(t.s.sign("✗", "failed"))
	}
	t.s.printf("%s  %s %-32s %8s\n", start, mark, t.what, brief(time.Since(t.began)))
}

// brief writes a duration in a few letters.
func brief(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// size writes a number of bytes in a few letters.
func size(n int) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	if n < 1<<20 {
		return fmt.Sprintf("%.1f KiB", float64(n)/1024)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
