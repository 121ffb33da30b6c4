package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/blob/memblob"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// partialSuffix ends the names of files that are being written.
const partialSuffix = ".tmp"

// File keeps payloads in a folder, which is made if it is missing. Processes may
// share it. What was put there outlives every process; a loss of power may take
// what was written in the last seconds before it.
func File(dir string) (claimcheck.Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("payload folder %q: %w", dir, err)
	}
	bucket, err := fileblob.OpenBucket(dir, &fileblob.Options{
		CreateDir: true, DirFileMode: 0o700,
		// Beside the file: a rename from another file system would fail.
		NoTempDir: true,
		Metadata:  fileblob.MetadataDontWrite,
	})
	if err != nil {
		return nil, fmt.Errorf("payload folder %q: %w", dir, err)
	}
	f := &folder{dir}
	return &store{bucket: bucket, options: plain(), list: f.list, discard: f.discard, gone: f.gone}, nil
}

// Memory keeps payloads in this process's memory, for tests: nothing bounds it.
func Memory() claimcheck.Store {
	return &store{bucket: memblob.OpenBucket(nil), options: plain()}
}

func plain() blob.WriterOptions {
	return blob.WriterOptions{DisableContentTypeDetection: true}
}

// folder does what fileblob does not: its List says nothing of a folder that it
// cannot read, and walks all of it anew for every 1,000 files.
type folder struct{ dir string }

// gone tells whether the folder itself is missing, as it is when a volume is not
// mounted: its objects are out of reach then, rather than gone.
func (f *folder) gone(error) bool { return f.check() != nil }

func (f *folder) check() error {
	info, err := os.Stat(f.dir)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "list", Path: f.dir, Err: syscall.ENOTDIR}
	}
	return err
}

func (f *folder) list(_ context.Context, prefix string) iter.Seq2[claimcheck.Object, error] {
	return func(yield func(claimcheck.Object, error) bool) {
		if err := f.check(); err != nil {
			yield(claimcheck.Object{}, err)
			return
		}
		top := f.dir
		if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
			if err := claimcheck.ValidName(prefix[:i]); err != nil {
				yield(claimcheck.Object{}, err)
				return
			}
			top = filepath.Join(top, filepath.FromSlash(prefix[:i]))
		}
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			return f.visit(prefix, path, d, err, yield)
		})
		if err != nil && !errors.Is(err, fs.SkipAll) {
			yield(claimcheck.Object{}, err)
		}
	}
}

func (f *folder) visit(prefix, path string, d fs.DirEntry, err error,
	yield func(claimcheck.Object, error) bool,
) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted meanwhile
	}
	if err != nil || d.IsDir() {
		return err
	}
	name, err := filepath.Rel(f.dir, path)
	if err != nil {
		return err
	}
	name = filepath.ToSlash(name)
	if !strings.HasPrefix(name, prefix) || !d.Type().IsRegular() {
		return nil
	}
	info, err := d.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	o := claimcheck.Object{
		Name: name, Size: info.Size(), Modified: info.ModTime(),
		Partial: strings.HasSuffix(name, partialSuffix),
	}
	if !yield(o, nil) {
		return fs.SkipAll
	}
	return nil
}

func (f *folder) discard(_ context.Context, name string) (bool, error) {
	if !strings.HasSuffix(name, partialSuffix) || claimcheck.ValidName(name) != nil {
		return false, nil
	}
	err := os.Remove(filepath.Join(f.dir, filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return true, err
}
