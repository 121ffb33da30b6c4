package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// folders are where things are kept while the demo runs.
type folders struct {
	bin      string // what was built
	samples  string // the YAML with the addresses of the day
	log      string // the dispatcher's data
	pictures string // what the steps collect

	remove []string // afterwards
}

// makeFolders makes them all; data is where the log and the pictures are to
// stay, "" for a temporary folder in which only the pictures do.
func makeFolders(data string) (*folders, error) {
	work, err := os.MkdirTemp("", "sidestep-demo-")
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	f := &folders{
		bin:      filepath.Join(work, "bin"),
		samples:  filepath.Join(work, "samples"),
		log:      filepath.Join(work, "log"),
		pictures: filepath.Join(work, "pictures"),
	}
	f.remove = []string{f.bin, f.samples, f.log}
	if data != "" {
		// The children have a working directory of their own.
		if data, err = filepath.Abs(data); err != nil {
			return nil, errors.Join(fmt.Errorf("find folder: %w", err), os.RemoveAll(work))
		}
		f.log, f.pictures = filepath.Join(data, "log"), filepath.Join(data, "pictures")
		f.remove = []string{work}
	}
	for _, dir := range []string{f.bin, f.samples, f.log, f.pictures} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, errors.Join(fmt.Errorf("make folder: %w", err), os.RemoveAll(work))
		}
	}
	return f, nil
}

// clean removes what nobody wants to see afterwards, and what is empty.
func (f *folders) clean() error {
	var errs []error
	for _, dir := range f.remove {
		errs = append(errs, os.RemoveAll(dir))
	}
	// Fails, as it should, where there are pictures.
	_ = os.Remove(f.pictures)
	_ = os.Remove(filepath.Dir(f.pictures))
	return errors.Join(errs...)
}
