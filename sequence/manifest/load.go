package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFileBytes bounds a file. A thousand Sequences are far below.
const maxFileBytes = 16 << 20

// Load reads files, and the files in folders that end in .yaml, .yml or .json,
// in the order of paths and, in a folder, of names. Like kubectl it does not
// descend into folders within a folder; it passes over hidden files, which
// editors leave. A file that is named twice is read once. A folder without
// such a file is a problem: it is more often one that is not mounted than one
// that is meant to be empty.
//
// The error, unless nil, is of type Problems.
func Load(paths []string) (*Set, error) {
	l := newLoading()
	for _, path := range paths {
		for _, file := range l.list(path) {
			l.readFile(file)
		}
	}
	return l.finish()
}

// Parse is Load for one file that is in memory; name is for messages.
func Parse(name string, data []byte) (*Set, error) {
	l := newLoading()
	l.read(name, data)
	return l.finish()
}

// ParseOnCluster is Parse where Secrets can be read: config-sidestep may name them in
// place of files.
func ParseOnCluster(name string, data []byte) (*Set, error) {
	l := newLoading()
	l.secrets = true
	l.read(name, data)
	return l.finish()
}

// loading is the state of one Load.
type loading struct {
	secrets  bool // may be named
	files    []string
	known    map[string]bool // files, by absolute path
	problems Problems

	set      *Set
	declared map[objectKey]value // where each object's name stands
	configs  map[string]value    // where the ConfigMaps' names stand
	checks   []func(*index)      // what needs all objects
}

func newLoading() *loading {
	return &loading{
		known:    make(map[string]bool),
		set:      newSet(),
		declared: make(map[objectKey]value),
		configs:  make(map[string]value),
	}
}

func (l *loading) add(p *Problem) { l.problems = append(l.problems, p) }

// list expands a path to files.
func (l *loading) list(path string) []string {
	info, err := os.Stat(path)
	if err != nil {
		l.unreadable(path, err)
		return nil
	}
	if !info.IsDir() {
		return []string{path}
	}
	entries, err := os.ReadDir(path) // sorted by name
	if err != nil {
		l.unreadable(path, err)
		return nil
	}
	var files []string
	for _, e := range entries {
		name := e.Name()
		ext := filepath.Ext(name)
		if strings.HasPrefix(name, ".") || ext != ".yaml" && ext != ".yml" && ext != ".json" {
			continue
		}
		file := filepath.Join(path, name)
		// Not e.Type: files of a mounted ConfigMap are symbolic links.
		if info, err := os.Stat(file); err == nil && info.IsDir() {
			continue
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		l.add(&Problem{File: path, Message: "has no file that ends in .yaml, .yml or .json"})
	}
	return files
}

func (l *loading) unreadable(path string, err error) {
	why := err.Error()
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		why = pathErr.Err.Error() // the path is in the Problem already
	}
	l.add(&Problem{File: path, Message: "cannot be read: " + why, cause: err})
}

func (l *loading) readFile(file string) {
	abs, err := filepath.Abs(file)
	if err != nil {
		abs = file
	}
	if l.known[abs] {
		return
	}
	l.known[abs] = true
	f, err := os.Open(file)
	if err != nil {
		l.unreadable(file, err)
		return
	}
	defer f.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		l.unreadable(file, err)
		return
	}
	l.read(file, data)
}

// read takes in the documents of a file.
func (l *loading) read(file string, data []byte) {
	l.files = append(l.files, file)
	if len(data) > maxFileBytes {
		l.add(&Problem{File: file, Message: fmt.Sprintf("is larger than %d MiB", maxFileBytes>>20)})
		return
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var node yaml.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			l.add(syntaxProblem(file, err))
			return
		}
		if node.Kind != yaml.DocumentNode || len(node.Content) == 0 {
			continue
		}
		d := &document{load: l, file: file}
		root := value{doc: d}.of(node.Content[0])
		if !root.null() {
			d.decode(root)
		}
	}
}

var syntaxLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntaxProblem moves the line out of the parser's message.
func syntaxProblem(file string, err error) *Problem {
	p := &Problem{File: file, Message: "is not YAML: " + err.Error(), cause: err}
	if m := syntaxLine.FindStringSubmatch(err.Error()); m != nil {
		p.Line, _ = strconv.Atoi(m[1]) // 0 when there is none
		p.Message = "is not YAML: " + err.Error()[len(m[0]):]
	}
	return p
}

// finish does what needs all objects, and tells whether all is right.
func (l *loading) finish() (*Set, error) {
	ix := l.set.index(TableOptions{})
	l.checkClashes()
	for _, check := range l.checks {
		check(ix)
	}
	if len(l.problems) > 0 {
		return nil, l.problems.sorted(l.files)
	}
	l.set.Files = slices.Clone(l.files)
	return l.set, nil
}
