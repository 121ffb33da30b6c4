package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

var errModule = errors.New("not inside the benchmarks' module")

// Build makes a program of the benchmarks' module. It never edits the module.
func Build(ctx context.Context, pkg, to string) error {
	module, err := moduleDir(ctx)
	if err != nil {
		return err
	}
	return build(ctx, module, pkg, to)
}

// BuildDispatcher makes the dispatcher, of the main module.
func BuildDispatcher(ctx context.Context, to string) error {
	module, err := moduleDir(ctx)
	if err != nil {
		return err
	}
	return build(ctx, filepath.Join(module, "..", ".."), "./cmd/dispatcher", to)
}

// BuildSidecar makes the sidecar, of the main module.
func BuildSidecar(ctx context.Context, to string) error {
	module, err := moduleDir(ctx)
	if err != nil {
		return err
	}
	return build(ctx, filepath.Join(module, "..", ".."), "./cmd/sidecar", to)
}

// BuildS3 makes the S3 server, of a module beside this one.
func BuildS3(ctx context.Context, to string) error {
	module, err := moduleDir(ctx)
	if err != nil {
		return err
	}
	return build(ctx, filepath.Join(module, "..", "s3"), ".", to)
}

func build(ctx context.Context, dir, pkg, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-o", to, pkg)
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, said)
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
