package kafkabackend

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// catalog is the authority on which logs and groups there are. It is a compacted
// topic of one partition, which every process reads as it grows, so that all see
// the same changes in the same order.
//
//	claim of log X, by A  ---> [ ... | X/A | X/B | delete X | ... ]
//	claim of log X, by B  ------------------^
//	                            X/A came first: it is log X for all, until
//	                            "delete X"; X/B never is.
//
// Kafka has no compare-and-set, and needs none here. Whoever makes a log appends
// a claim, under a key of its own, so that compaction cannot remove the first and
// leave a later one. The claim with the lowest offset holds; a deletion
// ends all claims before it. A change of a claim (sealed) repeats
// its offset of birth. Groups are kept in the same way, within a log.
type catalog struct {
	c    *cluster
	tail *tail
	// gone is called when groups have ended, without the lock.
	gone    func(ids []string)
	writing batcher[*writing]

	mu     sync.Mutex
	logs   map[string]*claims[*logEntry]              // by name
	groups map[string]map[string]*claims[*groupEntry] // by incarnation and name
	makers makers
}

// claims of one name, by their own id.
type claims[E entry] struct {
	live    map[string]E
	deleted int64 // the offset of the last deletion, -1: none
	marker  *marker
}

type entry interface{ born() int64 }

func (c *claims[E]) current() (holds E, found bool) {
	for _, e := range c.live {
		if !found || e.born() < holds.born() {
			holds, found = e, true
		}
	}
	return holds, found
}

func newClaims[E entry]() *claims[E] { return &claims[E]{live: make(map[string]E), deleted: -1} }

// logEntry is a claim of a log. Entries are not changed once they are known.
type logEntry struct {
	Name        []byte `json:"log"`
	Incarnation string `json:"incarnation"`
	Topic       string `json:"topic"`
	Partitions  int    `json:"partitions"`
	Ordered     bool   `json:"ordered,omitempty"`
	Made        bool   `json:"made,omitempty"` // the topic was made
	Sealed      bool   `json:"sealed,omitempty"`
	Birth       *int64 `json:"birth,omitempty"` // of the claim, in repetitions of it
	By          string `json:"by,omitempty"`    // the process that wrote this

	birth int64
}

func (e *logEntry) born() int64 { return e.birth }

// groupEntry is a claim of a group.
type groupEntry struct {
	Incarnation string  `json:"of"`
	Group       string  `json:"group"`
	ID          string  `json:"id"`
	Starts      []int64 `json:"starts"`       // by partition; those added later: 0
	By          string  `json:"by,omitempty"` // the process that wrote this

	birth int64
}

func (e *groupEntry) born() int64 { return e.birth }

func (e *groupEntry) start(partition int32) int64 {
	if int(partition) < len(e.Starts) {
		return e.Starts[partition]
	}
	return 0
}

// marker is a deletion. Topics are those that went, for whoever finds that the
// one who wrote it died before it had deleted them.
type marker struct {
	Deleted time.Time `json:"deleted"`
	Topics  []string  `json:"topics,omitempty"`
	Groups  []string  `json:"groups,omitempty"`
	Keys    [][]byte  `json:"keys,omitempty"` // of the claims that it ended

	finished atomic.Bool // as far as this process knows
}

// Keys: a letter, and JSON strings for what they are made of.
func key(kind string, parts ...[]byte) []byte {
	b, _ := json.Marshal(struct {
		Kind  string   `json:"kind"`
		Parts [][]byte `json:"parts"`
	}{kind, parts})
	return b
}

const (
	kindLog          = "log"
	kindLogDeleted   = "log deleted"
	kindGroup        = "group"
	kindGroupDeleted = "group deleted"
)

func (e *logEntry) key() []byte { return key(kindLog, e.Name, []byte(e.Incarnation)) }
func (e *groupEntry) key() []byte {
	return key(kindGroup, []byte(e.Incarnation), []byte(e.Group), []byte(e.ID))
}

func newCatalog(c *cluster) *catalog {
	k := &catalog{
		c: c, logs: make(map[string]*claims[*logEntry]), groups: make(map[string]map[string]*claims[*groupEntry]),
		gone: func([]string) {},
	}
	k.writing = batcher[*writing]{lanes: 1, most: maxWritings, group: c.group, run: k.put}
	return k
}

// apply takes in one record. It is called by the tail alone, in order.
func (k *catalog) apply(offset int64, w *wireRecord) {
	var id struct {
		Kind  string   `json:"kind"`
		Parts [][]byte `json:"parts"`
	}
	if json.Unmarshal(w.key, &id) != nil {
		return
	}
	before := k.alive(id.Kind, id.Parts)
	k.mu.Lock()
	switch id.Kind {
	case kindLog:
		if len(id.Parts) == 2 {
			k.applyLog(offset, string(id.Parts[0]), string(id.Parts[1]), w)
			k.makers.note(string(id.Parts[0]))
		}
	case kindLogDeleted:
		if len(id.Parts) == 1 {
			applyDeletion(k.log(string(id.Parts[0])), offset, w)
			k.makers.note(string(id.Parts[0]))
		}
	case kindGroup:
		if len(id.Parts) == 3 {
			k.applyGroup(offset, string(id.Parts[0]), string(id.Parts[1]), string(id.Parts[2]), w)
		}
	case kindGroupDeleted:
		if len(id.Parts) == 2 {
			applyDeletion(k.group(string(id.Parts[0]), string(id.Parts[1])), offset, w)
		}
	}
	k.mu.Unlock()
	var gone []string
	after := k.alive(id.Kind, id.Parts)
	for id := range before {
		if !after[id] {
			gone = append(gone, id)
		}
	}
	if len(gone) > 0 {
		k.gone(gone)
	}
}

// alive are the ids of the groups that a key is about and that exist.
func (k *catalog) alive(kind string, parts [][]byte) map[string]bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	ids := make(map[string]bool)
	if len(parts) == 0 {
		return ids
	}
	switch kind {
	case kindLog, kindLogDeleted:
		if c := k.logs[string(parts[0])]; c != nil {
			if e, ok := c.current(); ok {
				for _, g := range k.groups[e.Incarnation] {
					if e, ok := g.current(); ok {
						ids[e.ID] = true
					}
				}
			}
		}
	case kindGroup, kindGroupDeleted:
		if len(parts) > 1 {
			if c := k.groups[string(parts[0])][string(parts[1])]; c != nil {
				if e, ok := c.current(); ok {
					ids[e.ID] = true
				}
			}
		}
	}
	return ids
}

func (k *catalog) log(name string) *claims[*logEntry] {
	c := k.logs[name]
	if c == nil {
		c = newClaims[*logEntry]()
		k.logs[name] = c
	}
	return c
}

func (k *catalog) group(incarnation, name string) *claims[*groupEntry] {
	of := k.groups[incarnation]
	if of == nil {
		of = make(map[string]*claims[*groupEntry])
		k.groups[incarnation] = of
	}
	c := of[name]
	if c == nil {
		c = newClaims[*groupEntry]()
		of[name] = c
	}
	return c
}

func (k *catalog) applyLog(offset int64, name, incarnation string, w *wireRecord) {
	c := k.log(name)
	var e logEntry
	if w.null || json.Unmarshal(w.value, &e) != nil {
		delete(c.live, incarnation)
		delete(k.groups, incarnation)
		k.tidy(name)
		return
	}
	if e.birth = offset; e.Birth != nil {
		e.birth = *e.Birth
	}
	k.makers.hear(e.By)
	if e.birth > c.deleted {
		c.live[incarnation] = &e
	}
}

func (k *catalog) applyGroup(offset int64, incarnation, name, id string, w *wireRecord) {
	c := k.group(incarnation, name)
	var e groupEntry
	if w.null || json.Unmarshal(w.value, &e) != nil {
		delete(c.live, id)
		if len(c.live) == 0 && c.deleted < 0 {
			delete(k.groups[incarnation], name)
		}
		return
	}
	k.makers.hear(e.By)
	if e.birth = offset; e.birth > c.deleted {
		c.live[id] = &e
	}
}

func applyDeletion[E entry](c *claims[E], offset int64, w *wireRecord) {
	if w.null {
		c.marker = nil
		return
	}
	m := &marker{}
	_ = json.Unmarshal(w.value, m)
	c.deleted, c.marker = offset, m
	for id, e := range c.live {
		if e.born() < offset {
			delete(c.live, id)
		}
	}
}

// tidy forgets a name that has neither claims nor a deletion.
func (k *catalog) tidy(name string) {
	if c := k.logs[name]; c != nil && len(c.live) == 0 && c.deleted < 0 {
		delete(k.logs, name)
	}
}

// lookup finds a log as far as is known here, which may be out of date.
func (k *catalog) lookup(name string) (*logEntry, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.holds(name)
}

// still looks for a log that was there: it may have been deleted, and made again.
func (k *catalog) still(e *logEntry) (*logEntry, error) {
	now, ok := k.lookup(string(e.Name))
	if !ok || now.Incarnation != e.Incarnation {
		return nil, errDeletedMeanwhile
	}
	return now, nil
}

// holds is lookup with k.mu held.
func (k *catalog) holds(name string) (*logEntry, bool) {
	if c := k.logs[name]; c != nil {
		return c.current()
	}
	return nil, false
}

// find finds a log as it is now.
func (k *catalog) find(ctx context.Context, name string) (*logEntry, error) {
	if err := k.tail.sync(ctx); err != nil {
		return nil, err
	}
	if e, ok := k.lookup(name); ok {
		return e, nil
	}
	return nil, fmt.Errorf("log %q: %w", name, backend.ErrNotFound)
}

// findGroup finds a log and a group of it as they are now.
func (k *catalog) findGroup(ctx context.Context, log, name string) (*logEntry, *groupEntry, error) {
	e, err := k.find(ctx, log)
	if err != nil {
		return nil, nil, err
	}
	if g, ok := k.lookupGroup(e.Incarnation, name); ok {
		return e, g, nil
	}
	return nil, nil, fmt.Errorf("group %q of log %q: %w", name, log, backend.ErrNotFound)
}

func (k *catalog) lookupGroup(incarnation, name string) (*groupEntry, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.groups[incarnation][name]; c != nil {
		return c.current()
	}
	return nil, false
}

// groupsOf are all the groups of a log.
func (k *catalog) groupsOf(incarnation string) (all []*groupEntry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.groups[incarnation] {
		if e, ok := c.current(); ok {
			all = append(all, e)
		}
	}
	return all
}

// deletion is what the last deletion of a log left to do.
func (k *catalog) deletion(name string) *marker {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.logs[name]; c != nil {
		return c.marker
	}
	return nil
}
