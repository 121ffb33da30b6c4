package process

import (
	"io"
	"os/exec"
	"strings"
	"testing"
)

func shell(t *testing.T, script string) Command {
	t.Helper()
	path, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell here")
	}
	return Command{Name: "the script", Path: path, Args: []string{"-c", script}}
}

func TestStartWaitsForTheLineThatIsAcceptedAndLeavesTheRestToRead(t *testing.T) {
	c := shell(t, `echo starting; echo '{"kind":"A","url":"u1"}'; echo '{"kind":"B","url":"u2"}'; echo more; cat`)
	c.Accept = func(r Ready) bool { return r.Kind == "B" }
	child, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer child.Stop()
	if child.URL != "u2" {
		t.Errorf("got URL %q, want that of B", child.URL)
	}
	if line, err := child.Stdout.ReadString('\n'); err != nil || line != "more\n" {
		t.Errorf("got %q, %v after it was ready", line, err)
	}
	if _, err := child.CPU(); err != nil {
		t.Error(err)
	}
	if rss, err := child.PeakRSS(); err != nil || rss <= 0 {
		t.Errorf("got peak RSS %d, %v", rss, err)
	}
	child.Stop()
	if rest, err := io.ReadAll(child.Stdout); len(rest) > 0 {
		t.Errorf("it printed %q, %v after its end", rest, err)
	}
}

func TestStartOfWhatEndsAtOnceTellsWhatItSaid(t *testing.T) {
	_, err := Start(t.Context(), shell(t, `echo no such file >&2; exit 2`))
	if err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v, want what it wrote to stderr", err)
	}
}
