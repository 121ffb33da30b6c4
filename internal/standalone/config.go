package standalone

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Config of a standalone process.
type Config struct {
	// Paths of files and folders with YAML. At least one.
	Paths []string
	// Listen and Admin are the addresses of ingress and of the admin server.
	Listen, Admin string
	// Data is the folder for what must outlive the process; "" is
	// DefaultData().
	Data string
	// Key is the file of what this process has in common with others that run the
	// same files on the same external broker, made if it is absent; "" for none.
	Key string
	// JSON prints addresses as one JSON object a line instead of text.
	JSON bool
	// Drain is how long what is in flight may take when Run is told to stop.
	Drain time.Duration
	// SlipKey is the file of the Ed25519 key that signs slips, made if it is
	// absent; "" for none.
	SlipKey string
	// Zone is where the process runs: LocalPods of it are preferred. "": none is.
	Zone string
	// Stdout gets the addresses, once they are ready.
	Stdout io.Writer
	Logger *slog.Logger
}

// Validate tells what is wrong with c, all of it.
func (c *Config) Validate() error {
	var errs []error
	if len(c.Paths) == 0 {
		errs = append(errs, errors.New("no file: give at least one with -f"))
	}
	if c.Listen == "" || c.Admin == "" {
		errs = append(errs, errors.New("an address to listen on is empty: want host:port"))
	}
	if c.Drain < 0 {
		errs = append(errs, fmt.Errorf("drain is %v: want 0s or more", c.Drain))
	}
	return errors.Join(errs...)
}

// DefaultData is $XDG_STATE_HOME/sidestep, or ~/.local/state/sidestep (XDG Base
// Directory Specification 0.8).
func DefaultData() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sidestep"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for state: %w; give one with --data", err)
	}
	return filepath.Join(home, ".local", "state", "sidestep"), nil
}
