package blobstore_test

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// zeros yields n of them.
func zeros(n int64) io.Reader { return io.LimitReader(zero{}, n) }

type zero struct{}

func (zero) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestAFullDiskIsErrFullAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := file(t, dir)
	defer s.Close()
	if err := s.Put(t.Context(), "a/small", strings.NewReader("small")); err != nil {
		t.Fatal(err)
	}
	for range 3 { // what a failed put took is given back
		if err := s.Put(t.Context(), "a/large", zeros(8<<20)); !errors.Is(err, claimcheck.ErrFull) {
			t.Errorf("got %v, want ErrFull", err)
		}
		if err := s.Put(t.Context(), "a/fits", zeros(3<<20)); err != nil {
			t.Errorf("what fits: %v", err)
		}
		if err := s.Delete(t.Context(), "a/fits"); err != nil {
			t.Error(err)
		}
	}
	for o, err := range s.List(t.Context(), "") {
		if err != nil || o.Name != "a/small" {
			t.Errorf("left: %+v, %v", o, err)
		}
	}
}

func TestAReadOnlyFolderIsErrUnavailable(t *testing.T) {
	dir := t.TempDir()
	s := file(t, dir)
	defer s.Close()
	if err := s.Put(t.Context(), "x", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("remount: %v", err)
	}
	if err := s.Put(t.Context(), "y", strings.NewReader("y")); !errors.Is(err, claimcheck.ErrUnavailable) {
		t.Errorf("put: got %v, want ErrUnavailable", err)
	}
	r, err := s.Open(t.Context(), "x", 0, -1)
	if err != nil {
		t.Fatalf("what is there can be read: %v", err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); string(b) != "x" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
}
