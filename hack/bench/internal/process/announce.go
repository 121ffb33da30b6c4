package process

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// WithParent returns a context that ends when the parent closes this process's
// stdin, which its death does as well.
func WithParent(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return ctx, cancel
}

// Announce tells the parent that this process is ready.
func Announce(r Ready) error {
	line, err := json.Marshal(r)
	if err == nil {
		_, err = os.Stdout.Write(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	return nil
}
