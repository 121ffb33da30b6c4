// Package s3server starts a real S3 server for a test: hack/s3, built once and
// run as a child.
//
//	Start --> go build (in the Go build cache after the first time) --> child over a temporary folder
//	Kill  --> SIGKILL;  Restart --> the same folder and address again
//
// The child ends with the test process, also if that is killed: its stdin closes.
package s3server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/sidestep-dev/sidestep/internal/freeport"
)

// Server is an S3 server with an empty bucket named "claims".
type Server struct {
	URL                  string
	AccessKey, SecretKey string

	dir   string
	cmd   *exec.Cmd
	stdin io.Closer
}

// build makes the program, once per process.
var build = sync.OnceValues(func() (string, error) {
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		return "", fmt.Errorf("where are the sources?")
	}
	source := filepath.Join(filepath.Dir(here), "..", "..", "..", "hack", "s3")
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	// Always the same place: then the linker has nothing to do but the first time.
	program := filepath.Join(cache, "sidestep", "s3")
	cmd := exec.Command("go", "build", "-trimpath", "-o", program, ".")
	cmd.Dir = source
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", source, err, out)
	}
	return program, nil
})

// Start starts a server, which ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{AccessKey: "sidestep", SecretKey: "sidestep-test", dir: t.TempDir()}
	// One that is free for Restart, too.
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	s.start(t, address)
	t.Cleanup(s.Kill)
	return s
}

// Restart starts it again after Kill.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.start(t, strings.TrimPrefix(s.URL, "http://"))
}

// Kill ends it at once. Nothing happens if it has ended.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.stdin.Close()
	_ = s.cmd.Wait()
	s.cmd = nil
}

func (s *Server) start(t testing.TB, addr string) {
	t.Helper()
	program, err := build()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-dir", s.dir, "-addr", addr)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+s.AccessKey, "AWS_SECRET_ACCESS_KEY="+s.SecretKey)
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.cmd, s.stdin = cmd, stdin
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		var ready struct{ URL string }
		if json.Unmarshal(lines.Bytes(), &ready) == nil && ready.URL != "" {
			s.URL = ready.URL
			return
		}
	}
	s.Kill()
	t.Fatal("the S3 server does not start")
}
