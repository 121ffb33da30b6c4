package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

const module = "github.com/sidestep-dev/sidestep"

// What is built.
const (
	dispatcherPackage = "./cmd/dispatcher"
	stepsPackage      = "./config/samples/steps"
)

// moduleRoot is the folder of this module, wherever in it the demo was started.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	root := strings.TrimSpace(string(out))
	if err != nil || root == "" {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = errors.New(strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("find the module %s from here: %w", module, err)
	}
	return root, nil
}

// buildAll builds the programs into bin, one after another: the second finds
// much of the first one's work in the cache.
func buildAll(ctx context.Context, s *screen, root, bin string) error {
	for _, pkg := range []string{dispatcherPackage, stepsPackage} {
		t := s.task("build " + pkg)
		err := build(ctx, root, filepath.Join(bin, filepath.Base(pkg)), pkg, t.note)
		t.end(err)
		if err != nil {
			return err
		}
	}
	return nil
}

// build tells note of each package that is compiled, or module that is fetched.
func build(ctx context.Context, root, out, pkg string, note func(string)) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "build", "-v", "-o", out, pkg)
	cmd.Dir = root
	cmd.Stderr = &lines{emit: func(l string) {
		note(l)
		// Bare import paths are progress; what else there is may be an error.
		if strings.ContainsAny(l, " \t") {
			fmt.Fprintln(&said, l)
		}
	}}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}
