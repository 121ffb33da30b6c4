package telemetry

import (
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
)

// Hops is a live stream of hops, one JSON object a line, for a person or a tool
// that watches. Nobody watching costs one atomic load a hop; a watcher that
// does not keep up loses hops, and is told how many.
type Hops struct {
	watching atomic.Int32
	mu       sync.Mutex
	watchers map[*watcher]struct{}
}

// hopBacklog bounds what waits for one watcher; maxWatchers bounds them.
const (
	hopBacklog  = 4096
	maxWatchers = 16
)

// writeTimeout is how long a watcher may take to read what was sent.
const writeTimeout = 30 * time.Second

type watcher struct {
	lines  chan HopLine
	missed atomic.Int64
}

// HopLine is one hop as the stream shows it.
type HopLine struct {
	// Start is when the attempt began; Took how long it lasted.
	Start        time.Time     `json:"start"`
	Took         time.Duration `json:"tookNs"`
	ID           string        `json:"id"`
	Source       string        `json:"source"`
	Type         string        `json:"type"`
	Bytes        int64         `json:"bytes"`
	Reference    bool          `json:"reference,omitempty"`
	Leg          string        `json:"leg"`
	Travel       string        `json:"travel"`
	Namespace    string        `json:"namespace"`
	Channel      string        `json:"channel"`
	Subscription string        `json:"subscription"`
	Dest         string        `json:"dest"`
	Attempt      int           `json:"attempt"`
	Status       int           `json:"status"`
	Error        string        `json:"error,omitempty"`
	// Pod ran the step; Spilled is why the event had been given back.
	Pod     string `json:"pod,omitempty"`
	Spilled string `json:"spilled,omitempty"`
	// Missed hops before this one.
	Missed int64 `json:"missed,omitempty"`
}

func (s *Hops) hop(h *channel.Hop) {
	if s.watching.Load() == 0 {
		return
	}
	l := HopLine{
		Start: h.Start, Took: h.Took,
		ID: h.Event.ID, Source: h.Event.Source, Type: h.Event.Type, Bytes: h.Event.Size(), Reference: h.Reference,
		Leg: h.Leg.String(), Travel: h.Travel.String(),
		Namespace: h.Channel.Namespace, Channel: h.Channel.Name, Subscription: h.Subscription.Name,
		Dest: h.Dest, Attempt: h.Result.Attempts, Status: h.Result.Status,
		Pod: h.Pod, Spilled: h.Spilled.String(),
	}
	if h.Result.Err != nil {
		l.Error = h.Result.Err.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		select {
		case w.lines <- l:
		default:
			w.missed.Add(1)
		}
	}
}

func (s *Hops) add(w *watcher) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.watchers) >= maxWatchers {
		return false
	}
	if s.watchers == nil {
		s.watchers = make(map[*watcher]struct{})
	}
	s.watchers[w] = struct{}{}
	s.watching.Add(1)
	return true
}

func (s *Hops) remove(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watchers, w)
	s.watching.Add(-1)
}

// ServeHTTP streams hops until the client leaves.
func (s *Hops) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w := &watcher{lines: make(chan HopLine, hopBacklog)}
	if !s.add(w) {
		http.Error(rw, "too many watchers", http.StatusServiceUnavailable)
		return
	}
	defer s.remove(w)
	rw.Header().Set("Content-Type", "application/jsonl")
	rw.WriteHeader(http.StatusOK)
	out := http.NewResponseController(rw)
	if out.Flush() != nil {
		return
	}
	enc := json.NewEncoder(rw)
	for {
		select {
		case <-r.Context().Done():
			return
		case l := <-w.lines:
			l.Missed = w.missed.Swap(0)
			// One that stalls must not keep its place for ever.
			if out.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
				return
			}
			if enc.Encode(l) != nil {
				return
			}
			if len(w.lines) == 0 && out.Flush() != nil {
				return
			}
		}
	}
}
