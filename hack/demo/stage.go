package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
)

// stage is the running steps and dispatcher.
type stage struct {
	screen   *screen
	folders  *folders
	pictures string // those of the repository
	journal  *journal
	names    map[string]string // of steps, by address

	steps, dispatcher *child
	stopWatching      func()
	urls              map[string]string // of what takes events, by name
	admin             string            // URL
	client            http.Client
}

// raise starts everything, and returns when events can be posted. The stage is
// to be struck, also after an error.
func raise(ctx context.Context, fail func(error), s *screen, root string, f *folders) (*stage, error) {
	st := &stage{
		screen: s, folders: f, journal: newJournal(),
		pictures: filepath.Join(root, "config", "samples", "pictures"),
		client:   http.Client{Transport: &http.Transport{}},
	}
	t := s.task("start the steps")
	addresses, err := st.startSteps(ctx, fail)
	t.end(err)
	if err != nil {
		return st, err
	}
	if err := rewriteAll(filepath.Join(root, "config", "samples"), f.samples, addresses); err != nil {
		return st, err
	}
	t = s.task("start the dispatcher")
	err = st.startDispatcher(ctx, fail)
	t.end(err)
	if err != nil {
		return st, err
	}
	st.stopWatching, err = watchHops(ctx, fail, st.journal, st.admin+"/debug/hops")
	return st, err
}

// strike ends the dispatcher first: it drains into the steps.
func (st *stage) strike() error {
	if st.stopWatching != nil {
		st.stopWatching()
	}
	st.client.CloseIdleConnections()
	return errors.Join(st.dispatcher.stop(), st.steps.stop())
}

// awaited collects named values from a child's lines until all are there.
type awaited struct {
	mu     sync.Mutex
	values map[string]string
	want   int
	all    chan struct{} // closed when there are as many as wanted
}

func await(want int) *awaited {
	return &awaited{values: make(map[string]string), want: want, all: make(chan struct{})}
}

func (a *awaited) set(name, value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.values[name]; known || len(a.values) == a.want {
		return
	}
	a.values[name] = value
	if len(a.values) == a.want {
		close(a.all)
	}
}

// wait returns the values, which do not change any more.
func (a *awaited) wait(ctx context.Context) (map[string]string, error) {
	select {
	case <-a.all:
		return a.values, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// stepCount is how many steps the samples have.
const stepCount = 12

func (st *stage) startSteps(ctx context.Context, fail func(error)) (addresses map[string]string, err error) {
	listening := await(stepCount)
	out := func(line string) {
		var l struct {
			Listening string `json:"listening"`
			URL       string `json:"url"`
			kept
		}
		switch {
		case json.Unmarshal([]byte(line), &l) != nil:
		case l.Listening != "":
			listening.set(l.Listening, l.URL)
		case l.File != "":
			st.journal.addKept(l.kept)
		}
	}
	st.steps, err = startChild(fail, out, func(string) {}, filepath.Join(st.folders.bin, "steps"),
		"--all", "--listen", "127.0.0.1:0", "--out", st.folders.pictures, "--output", "json")
	if err != nil {
		return nil, err
	}
	if addresses, err = listening.wait(ctx); err != nil {
		return nil, fmt.Errorf("start the steps: %w", err)
	}
	st.names = make(map[string]string)
	for name, address := range addresses {
		st.names[address] = name
	}
	return addresses, nil
}

func (st *stage) startDispatcher(ctx context.Context, fail func(error)) (err error) {
	const adminKey = "admin"
	ready := await(4) // pics, prints, films and the admin server
	out := func(line string) {
		var l struct{ Kind, Name, URL string }
		if json.Unmarshal([]byte(line), &l) == nil && l.URL != "" {
			ready.set(l.Kind+"/"+l.Name, l.URL)
		}
	}
	log := func(line string) {
		if at, ok := adminAddress(line); ok {
			ready.set(adminKey, "http://"+at)
		}
	}
	st.dispatcher, err = startChild(fail, out, log, filepath.Join(st.folders.bin, "dispatcher"),
		"standalone", "-f", st.folders.samples, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
		"--data", st.folders.log, "--drain", "10s", "--output", "json")
	if err != nil {
		return err
	}
	if st.urls, err = ready.wait(ctx); err != nil {
		return fmt.Errorf("start the dispatcher: %w", err)
	}
	st.admin = st.urls[adminKey]
	return nil
}

// adminAddress finds where the admin server is in a line of the log.
func adminAddress(line string) (string, bool) {
	if !strings.Contains(line, "msg=serving ") {
		return "", false
	}
	for _, word := range strings.Fields(line) {
		if at, ok := strings.CutPrefix(word, "admin="); ok {
			return strings.Trim(at, `"`), true
		}
	}
	return "", false
}

// newRun is a word that tells one run's events from another's.
func newRun() string { return strings.ToLower(rand.Text()[:4]) }
