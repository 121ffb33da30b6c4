package main

import (
	"context"
	"path/filepath"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
)

// binary is a program that has to be built.
type binary string

const (
	binaryDispatcher binary = "dispatcher"
	binaryInMemory   binary = "inmemory"
)

// path is where a binary is once it is built.
func (b *bench) path(name binary) string { return filepath.Join(b.dir, "bin", string(name)) }

// build makes the binaries that some contenders need.
func (b *bench) build(ctx context.Context, wanted []contender) error {
	built := map[binary]bool{"": true}
	for _, c := range wanted {
		if built[c.binary] {
			continue
		}
		built[c.binary] = true
		b.say("building %s …", c.binary)
		var err error
		if c.binary == binaryDispatcher {
			err = process.BuildDispatcher(ctx, b.path(c.binary))
		} else {
			err = process.Build(ctx, "./inmemory", b.path(c.binary))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
