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
	binarySidecar    binary = "sidecar"
)

// path is where a binary is once it is built.
func (b *bench) path(name binary) string { return filepath.Join(b.dir, "bin", string(name)) }

// build makes the binaries that some contenders need.
func (b *bench) build(ctx context.Context, wanted []contender) error {
	built := map[binary]bool{"": true}
	for _, c := range wanted {
		needed := []binary{c.binary}
		if c.sidecar {
			needed = append(needed, binarySidecar)
		}
		for _, name := range needed {
			if built[name] {
				continue
			}
			built[name] = true
			b.say("building %s …", name)
			if err := b.buildOne(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) buildOne(ctx context.Context, name binary) error {
	switch name {
	case binaryDispatcher:
		return process.BuildDispatcher(ctx, b.path(name))
	case binarySidecar:
		return process.BuildSidecar(ctx, b.path(name))
	default:
		return process.Build(ctx, "./inmemory", b.path(name))
	}
}
