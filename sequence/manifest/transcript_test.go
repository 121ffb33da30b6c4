package manifest_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

var update = flag.Bool("update", false, "write what was got into testdata")

// transcript is a file of testdata: comment, "-- name --" lines each followed
// by the file of that name, and last what is expected.
type transcript struct {
	path, comment, want string
	files               []string // names and contents in turn
	wantName            string
}

func readTranscripts(t *testing.T, pattern, wantName string) []transcript {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no transcripts at %s: %v", pattern, err)
	}
	var all []transcript
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		tr := transcript{path: path, wantName: wantName}
		into := &tr.comment
		for line := range strings.Lines(string(data)) {
			name, isName := strings.CutPrefix(strings.TrimRight(line, "\n"), "-- ")
			if isName {
				name, isName = strings.CutSuffix(name, " --")
			}
			switch {
			case isName && name == wantName:
				into = &tr.want
			case isName:
				tr.files = append(tr.files, name, "")
				into = &tr.files[len(tr.files)-1]
			default:
				*into += line
			}
		}
		all = append(all, tr)
	}
	return all
}

// load loads the transcript's files from a folder of the test.
func (tr *transcript) load(t *testing.T) (*manifest.Set, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	var names []string
	for i := 0; i < len(tr.files); i += 2 {
		if err := os.WriteFile(tr.files[i], []byte(tr.files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, tr.files[i])
	}
	return manifest.Load(names)
}

// check compares, or with -update writes.
func (tr *transcript) check(t *testing.T, root, got string) {
	t.Helper()
	if got == tr.want {
		return
	}
	if !*update {
		t.Errorf("%s\ngot:\n%s\nwant:\n%s", tr.path, got, tr.want)
		return
	}
	var b strings.Builder
	b.WriteString(tr.comment)
	for i := 0; i < len(tr.files); i += 2 {
		fmt.Fprintf(&b, "-- %s --\n%s", tr.files[i], tr.files[i+1])
	}
	fmt.Fprintf(&b, "-- %s --\n%s", tr.wantName, got)
	if err := os.WriteFile(filepath.Join(root, tr.path), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func workingDirectory(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestEveryProblemIsReportedWithItsFileLineAndField(t *testing.T) {
	root := workingDirectory(t)
	for _, tr := range readTranscripts(t, "testdata/problems/*.txt", "problems") {
		t.Run(strings.TrimSuffix(filepath.Base(tr.path), ".txt"), func(t *testing.T) {
			set, err := tr.load(t)
			if err == nil {
				t.Fatalf("loaded %v", set)
			}
			tr.check(t, root, err.Error()+"\n")
		})
	}
}

func TestTables(t *testing.T) {
	root := workingDirectory(t)
	for _, tr := range readTranscripts(t, "testdata/tables/*.txt", "table") {
		t.Run(strings.TrimSuffix(filepath.Base(tr.path), ".txt"), func(t *testing.T) {
			set, err := tr.load(t)
			if err != nil {
				t.Fatal(err)
			}
			table, addresses, err := set.Table(manifest.TableOptions{UID: uid})
			if err != nil {
				t.Fatal(err)
			}
			tr.check(t, root, drawTable(table, addresses))
		})
	}
}

func uid(kind, namespace, name string) string { return kind + "." + namespace + "." + name }

func drawTable(table *channel.Table, addresses []manifest.Address) string {
	var b strings.Builder
	for _, a := range addresses {
		fmt.Fprintf(&b, "%s %s/%s %s\n", a.Kind, a.Namespace, a.Name, a.URL)
	}
	for _, c := range table.Channels {
		fmt.Fprintf(&b, "\n%s/%s %s %s\n", c.Namespace, c.Name, c.URL, strings.Join(c.Hosts, " "))
		fmt.Fprintf(&b, "  ordered %t, short circuit %s\n", c.Ordered, []string{"Colocated", "Always", "Never"}[c.ShortCircuit])
		for _, s := range c.Subscriptions {
			to := "nobody"
			if s.Subscriber != nil {
				to = drawTarget(*s.Subscriber)
			}
			fmt.Fprintf(&b, "  %s -> %s, reply %s, dead letter %s\n", s.UID, to, drawDestination(s.Reply), drawDestination(s.DeadLetter))
			if s.Policy != (egress.Policy{}) {
				fmt.Fprintf(&b, "    %s\n", drawPolicy(s.Policy))
			}
		}
	}
	return b.String()
}

func drawTarget(t egress.Target) string {
	if t.Reference {
		t.Reference = false
		return drawTarget(t) + " (by reference)"
	}
	if t.CACerts != "" {
		return t.URL + " (with certificates)"
	}
	return t.URL
}

func drawDestination(d *channel.Destination) string {
	switch {
	case d == nil:
		return "none"
	case d.Channel != "":
		return "channel " + d.Channel
	default:
		return drawTarget(d.Target)
	}
}

func drawPolicy(p egress.Policy) string {
	after := "ignored"
	if p.RetryAfterMax != nil {
		after = "at most " + p.RetryAfterMax.String()
	}
	return fmt.Sprintf("retry %d, timeout %v, %s of %v, Retry-After %s, %s", p.Retry, p.Timeout,
		[]string{"exponential", "linear"}[p.Backoff], p.Delay, after, []string{"binary", "structured"}[p.Format])
}
