package standalone

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long files must have been quiet: editors write in several steps.
const settle = 200 * time.Millisecond

// watcher sees edits to files, from the moment it was opened.
type watcher struct {
	notify  *fsnotify.Watcher
	files   map[string]bool // paths that were named as files
	folders map[string]bool // and as folders
}

// openWatcher watches folders rather than files: editors, and mounted
// ConfigMaps, replace a file by another of its name.
func openWatcher(paths []string) (*watcher, error) {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	w := &watcher{notify: n, files: map[string]bool{}, folders: map[string]bool{}}
	for _, path := range paths {
		path = filepath.Clean(path)
		dir := path
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			w.folders[path] = true
		} else {
			w.files[path] = true
			dir = filepath.Dir(path)
		}
		if err := n.Add(dir); err != nil {
			n.Close()
			return nil, fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	return w, nil
}

// close may be called on nil.
func (w *watcher) close() {
	if w != nil {
		w.notify.Close()
	}
}

// run calls changed after the files have changed, until ctx ends.
func (w *watcher) run(ctx context.Context, logger *slog.Logger, changed func()) {
	quiet := time.NewTimer(0)
	<-quiet.C
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-w.notify.Events:
			if e.Op != fsnotify.Chmod && w.concerns(e.Name) {
				quiet.Reset(settle)
			}
		case err := <-w.notify.Errors:
			logger.Warn("watching files: some changes may have been missed", "error", err)
			quiet.Reset(settle)
		case <-quiet.C:
			changed()
		}
	}
}

// concerns tells whether a file is one of those to be read. Other files in the
// same folder, a log for instance, may be written all the time: the files would
// never be quiet.
func (w *watcher) concerns(name string) bool {
	name = filepath.Clean(name)
	base := filepath.Base(name)
	if strings.HasPrefix(base, "..") {
		return true // in a mounted ConfigMap the link ..data is replaced
	}
	if w.files[name] || w.folders[name] {
		return true
	}
	switch filepath.Ext(base) {
	case ".yaml", ".yml", ".json":
		return w.folders[filepath.Dir(name)] && !strings.HasPrefix(base, ".")
	}
	return false
}
