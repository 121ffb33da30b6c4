package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// binary is a program that has to be built.
type binary string

const (
	binaryDispatcher binary = "dispatcher"
	binaryInMemory   binary = "inmemory"
)

var errModule = errors.New("not inside the benchmarks' module")

// path is where a binary is once it is built.
func (b *bench) path(name binary) string { return filepath.Join(b.dir, "bin", string(name)) }

// build makes the binaries that some contenders need.
func (b *bench) build(ctx context.Context, wanted []contender) error {
	module, err := moduleDir(ctx)
	if err != nil {
		return err
	}
	built := map[binary]bool{"": true}
	for _, c := range wanted {
		if built[c.binary] {
			continue
		}
		built[c.binary] = true
		b.say("building %s …", c.binary)
		dir, pkg := module, "./inmemory"
		if c.binary == binaryDispatcher {
			dir, pkg = filepath.Join(module, "..", ".."), "./cmd/dispatcher"
		}
		// Read-only: a benchmark never edits a module.
		cmd := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-o", b.path(c.binary), pkg)
		cmd.Dir = dir
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", c.binary, err, said)
		}
	}
	return nil
}

// moduleDir is the folder of the module that the working directory is in.
func moduleDir(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	file := strings.TrimSpace(string(out))
	dir := filepath.Dir(file)
	if _, err := os.Stat(filepath.Join(dir, "inmemory", "main.go")); err != nil {
		return "", fmt.Errorf("%w: %s", errModule, file)
	}
	return dir, nil
}
