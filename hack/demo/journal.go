package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// hop is a line of the dispatcher's /debug/hops: one attempt to hand an event
// on. (The type of the dispatcher would bring its whole import graph, and the
// demo is to be there quickly; a test compares the two.)
type hop struct {
	Start   time.Time     `json:"start"`
	Took    time.Duration `json:"tookNs"`
	ID      string        `json:"id"`
	Leg     string        `json:"leg"`
	Travel  string        `json:"travel"`
	Dest    string        `json:"dest"`
	Attempt int           `json:"attempt"`
	Status  int           `json:"status"`
	Error   string        `json:"error"`
	Missed  int64         `json:"missed"`
	// Bytes of data, handed over by reference or by value.
	Bytes     int64 `json:"bytes"`
	Reference bool  `json:"reference"`
}

// Values of a hop's leg and travel.
const (
	toStep         = "step"
	toDeadLetter   = "dead-letter"
	toSpill        = "spill"
	shortCircuited = "short-circuited"
)

func (h *hop) failed() bool { return h.Error != "" || h.Status < 200 || h.Status > 299 }

// kept is a line of the steps: a file that was written.
type kept struct {
	ID    string `json:"id"`
	File  string `json:"file"`
	Bytes int    `json:"bytes"`
}

// journal collects what is seen of events, by their ids.
type journal struct {
	mu      sync.Mutex
	hops    map[string][]hop
	kept    map[string][]kept
	changed chan struct{} // closed, and made anew, at each change
	live    func(*hop)    // is shown hops as they come
}

func newJournal() *journal {
	return &journal{hops: make(map[string][]hop), kept: make(map[string][]kept), changed: make(chan struct{})}
}

func (j *journal) addHop(h *hop) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.live != nil {
		j.live(h) // and keep nothing: this may go on for days
		return
	}
	j.hops[h.ID] = append(j.hops[h.ID], *h)
	j.wake()
}

func (j *journal) addKept(k kept) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.live == nil {
		j.kept[k.ID] = append(j.kept[k.ID], k)
		j.wake()
	}
}

func (j *journal) wake() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// showLive hands every hop from now on to show.
func (j *journal) showLive(show func(*hop)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.live = show
}

// await returns what is known of an event as soon as that is all.
func (j *journal) await(ctx context.Context, id string, all func([]hop, []kept) bool) ([]hop, []kept, error) {
	for {
		j.mu.Lock()
		hops, files, changed := slices.Clone(j.hops[id]), slices.Clone(j.kept[id]), j.changed
		j.mu.Unlock()
		if all(hops, files) {
			slices.SortStableFunc(hops, func(a, b hop) int {
				return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Attempt, b.Attempt))
			})
			return hops, files, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("wait for event %s, seen on %d hops so far: %w", id, len(hops), context.Cause(ctx))
		case <-changed:
		}
	}
}

// watchHops reads the dispatcher's stream into the journal. When it returns, no
// hop that begins later is missed. stop ends it and waits for that.
func watchHops(ctx context.Context, fail func(error), j *journal, url string) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch hops: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		err = errors.New(resp.Status)
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch hops: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer resp.Body.Close()
		if err := readHops(resp.Body, j); !endsSoon(ctx) {
			fail(fmt.Errorf("the stream of hops ended: %w", err))
		}
	}()
	return func() { cancel(); <-done }, nil
}

func readHops(r io.Reader, j *journal) error {
	dec := json.NewDecoder(r)
	for {
		var h hop
		if err := dec.Decode(&h); err != nil {
			return err
		}
		j.addHop(&h)
	}
}
