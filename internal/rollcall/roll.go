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
	Shared   bool
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

// Stocks is what a Roll asks of those who open backends and payload stores.
type Stocks interface {
	// Backends and Storing are Answer's.
	Backends() map[string]string
	Storing() []string
	// Place of a log, and whether it is joined in full.
	Place(log string) (p Place, joined bool)
}

// Roll answers calls. Its methods may be called from any goroutine.
type Roll struct {
	// Stocks may be nil; set it before the first call.
	Stocks Stocks

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
		c := Channel{UID: n.UID, Draining: n.Draining, Shared: n.Shared, Changed: n.changed, Subscriptions: subs}
		if r.Stocks != nil {
			c.Place, c.Joined = r.Stocks.Place(name)
		}
		a.Channels[name] = c
	}
	if r.Stocks != nil {
		a.Backends, a.Storing = r.Stocks.Backends(), r.Stocks.Storing()
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
