package rollcall

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
)

// Entry is a channel in a table that was applied.
type Entry struct {
	UID      string
	Draining bool
	// Subscriptions are generations by UID.
	Subscriptions map[string]int64
}

// Table is what a Roll asks of a dispatcher.
type Table interface {
	Epoch() uint64
	Observed() uint64
	// Receiving is why records for a subscription cannot be received just now,
	// or nil.
	Receiving(uid string) error
}

// Roll answers calls. Its methods may be called from any goroutine.
type Roll struct {
	table Table

	mu       sync.Mutex
	channels map[string]noted
}

type noted struct {
	Entry
	changed uint64
}

// NewRoll makes a Roll that knows nothing yet.
func NewRoll(t Table) *Roll { return &Roll{table: t, channels: map[string]noted{}} }

// Applied tells what the table of an epoch has, by "namespace/name". It is called
// after each Apply, in the order of the epochs; the Roll owns the map from then
// on.
func (r *Roll) Applied(epoch uint64, entries map[string]Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := make(map[string]noted, len(entries))
	for name, e := range entries {
		n := noted{e, epoch}
		if was, ok := r.channels[name]; ok && was.UID == e.UID && was.Draining == e.Draining && sameKeys(was.Subscriptions, e.Subscriptions) {
			n.changed = was.changed
		}
		next[name] = n
	}
	r.channels = next
}

// sameKeys compares the UIDs alone: what a subscription's generation changes is
// where its events go, not who gets them.
func sameKeys(a, b map[string]int64) bool {
	if len(a) != len(b) {
		return false
	}
	for uid := range a {
		if _, ok := b[uid]; !ok {
			return false
		}
	}
	return true
}

// Answer a call.
func (r *Roll) Answer(c *Call) *Answer {
	r.mu.Lock()
	found := make(map[string]noted, len(c.Channels))
	for _, name := range c.Channels {
		if n, ok := r.channels[name]; ok {
			n.Subscriptions = maps.Clone(n.Subscriptions)
			found[name] = n
		}
	}
	r.mu.Unlock()
	// The table is looked at after what it has: then no answer claims that an
	// older table is gone than the one it speaks of.
	a := &Answer{Epoch: r.table.Epoch(), Observed: r.table.Observed(), Channels: make(map[string]Channel, len(found))}
	for name, n := range found {
		subs := make(map[string]Subscription, len(n.Subscriptions))
		for uid, generation := range n.Subscriptions {
			s := Subscription{Generation: generation}
			if err := r.table.Receiving(uid); err != nil {
				s.Error = err.Error()
			}
			subs[uid] = s
		}
		a.Channels[name] = Channel{UID: n.UID, Draining: n.Draining, Changed: n.changed, Subscriptions: subs}
	}
	return a
}

// ServeHTTP implements http.Handler.
func (r *Roll) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "want POST", http.StatusMethodNotAllowed)
		return
	}
	var c Call
	body := http.MaxBytesReader(w, req.Body, maxCallBytes)
	if err := json.NewDecoder(body).Decode(&c); err != nil {
		http.Error(w, fmt.Sprintf("want {\"channels\": [\"namespace/name\"]}: %v", err), http.StatusBadRequest)
		return
	}
	if len(c.Channels) > MaxChannels {
		http.Error(w, fmt.Sprintf("asks after %d channels: at most %d", len(c.Channels), MaxChannels), http.StatusBadRequest)
		return
	}
	_, _ = io.Copy(io.Discard, body)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(r.Answer(&c)) // who asked has gone
}
