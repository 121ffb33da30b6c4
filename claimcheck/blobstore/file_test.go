package blobstore_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/blobstore"
	"github.com/sidestep-dev/sidestep/claimcheck/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func file(t *testing.T, dir string) claimcheck.Store {
	t.Helper()
	s, err := blobstore.File(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMemory(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Open:     func(*testing.T) claimcheck.Store { return blobstore.Memory() },
		InMemory: true,
	})
}

func TestFile(t *testing.T) {
	var dir string // of the store that was opened last
	storetest.Run(t, storetest.Harness{
		Open: func(t *testing.T) claimcheck.Store {
			dir = filepath.Join(t.TempDir(), "claims")
			return file(t, dir)
		},
		Down: func(t *testing.T) claimcheck.Store {
			mount := filepath.Join(t.TempDir(), "mount")
			s := file(t, mount)
			// What a folder on a volume becomes that is no longer mounted.
			if err := os.RemoveAll(mount); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(mount, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return s
		},
		Interrupt: func(t *testing.T, _ claimcheck.Store, name string) {
			if err := os.WriteFile(filepath.Join(dir, name+".18a2b3c4d5e6f708.tmp"), []byte("torn"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	})
}

func TestTheNameOfAPartialFileIsWhatPutUses(t *testing.T) {
	t.Parallel()
	s := file(t, t.TempDir())
	defer s.Close()
	var partial []string
	look := lookFunc(func() {
		for o, err := range s.List(t.Context(), "") {
			if err != nil || !o.Partial {
				t.Errorf("got %+v, %v", o, err)
			}
			partial = append(partial, o.Name)
		}
	})
	if err := s.Put(t.Context(), "a/x", look); err != nil {
		t.Fatal(err)
	}
	if len(partial) != 1 || !strings.HasPrefix(partial[0], "a/x.") {
		t.Errorf("got %v", partial)
	}
}

type lookFunc func()

func (f lookFunc) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

func TestListDoesNotLeaveTheFolder(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := file(t, filepath.Join(root, "claims"))
	defer s.Close()
	if err := s.Put(t.Context(), "x", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"../", "../secret", "x/../../", "/"} {
		for o, err := range s.List(t.Context(), prefix) {
			if err == nil {
				t.Errorf("list %q: got %v", prefix, o)
			}
		}
	}
}

func TestAFolderThatCannotBeMadeIsAnError(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{name, filepath.Join(name, "below")} {
		if s, err := blobstore.File(dir); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("got %v, %v, want an error that names %s", s, err, dir)
		}
	}
}

func TestAReaderEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := blobstore.Memory()
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, "x", strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("put: got %v, want context.Canceled", err)
	}
}
