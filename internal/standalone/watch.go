package standalone

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long files must have been quiet: editors write in several steps.
const settle = 200 * time.Millisecond

// watch calls changed after files beneath the paths have changed, until ctx
// ends. Folders are watched rather than files: editors, and mounted ConfigMaps,
// replace a file by another of its name.
func watch(ctx context.Context, paths []string, logger *slog.Logger, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	defer w.Close()
	for _, path := range paths {
		dir := path
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			dir = filepath.Dir(path)
		}
		if err := w.Add(dir); err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	quiet := time.NewTimer(0)
	<-quiet.C
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.Events:
			if e.Op != fsnotify.Chmod {
				quiet.Reset(settle)
			}
		case err := <-w.Errors:
			logger.Warn("watching files: some changes may have been missed", "error", err)
			quiet.Reset(settle)
		case <-quiet.C:
			changed()
		}
	}
}
