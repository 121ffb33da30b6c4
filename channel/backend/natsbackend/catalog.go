package natsbackend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// catalog is the authority on which logs there are. It is a stream with one
// message per subject; a change names the revision that it is made from, so
// that of two at the same time one fails. It also holds leases.
type catalog struct {
	names  names
	js     jetstream.JetStream
	stream jetstream.Stream
	limit  time.Duration // of one exchange
	turns  turns         // of what administrative calls ask

	mu    sync.RWMutex
	known map[string]entry // live and sealed logs, as last seen
}

// entry is what the catalog says of a log.
type entry struct {
	Name        string              `json:"name"`
	Incarnation backend.Incarnation `json:"incarnation"`
	Ordered     bool                `json:"ordered,omitempty"`
	State       state               `json:"state"`

	revision uint64
	shard    int    // follows from the name
	subject  string // follows from the incarnation
}

// complete sets what follows from the rest.
func (e *entry) complete(n names) {
	e.shard, e.subject = shardOf(e.Name), n.logSubject(e.Incarnation)
}

type state string

const (
	live     state = "live"
	sealed   state = "sealed"
	deleting state = "deleting" // what remains of it is being removed
	deleted  state = "deleted"  // nothing remains
)

// forgetAfter is how long a deleted log's entry stays. It is written rather than
// erased, since a server that is killed may bring back what was erased last,
// and what came before.
const forgetAfter = time.Hour

// errConflict: somebody else changed it first.
var errConflict = errors.New("changed by another process")

func openCatalog(ctx context.Context, n names, js jetstream.JetStream, replicas int, limit time.Duration) (*catalog, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s, err := catalogStream(ctx, js, n, jetstream.StreamConfig{
		Name:              n.catalogStream(),
		Description:       "Sidestep: which logs there are",
		Subjects:          []string{n.catalogStreamSubjects()},
		MaxMsgsPerSubject: 1,
		AllowMsgTTL:       true,
		Replicas:          replicas,
	})
	if err != nil {
		return nil, adminError("open catalog", err)
	}
	return &catalog{names: n, js: js, stream: s, limit: limit, turns: make(turns, turnsAtOnce), known: make(map[string]entry)}, nil
}

// catalogStream makes the stream, or changes it, where that is needed only: a server
// that is killed meanwhile may have lost it (docs/design/jetstream-mapping.md).
func catalogStream(ctx context.Context, js jetstream.JetStream, n names, c jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := js.Stream(ctx, c.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		// Without it nobody knows what the other streams hold.
		var orphan string
		if orphan, err = anyStream(ctx, js, n.logSubject(">")); err != nil {
			return nil, err
		}
		s, err = js.Stream(ctx, c.Name) // somebody may have made both meanwhile
		if errors.Is(err, jetstream.ErrStreamNotFound) && orphan != "" {
			return nil, fmt.Errorf("stream %s, which says whose records stream %s holds, is gone: see in the broker's log why, and restore it; or, "+
				"to begin anew without those records, delete the streams %s-*: %w", c.Name, orphan, n.prefix, backend.ErrUnavailable)
		}
	}
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
	case err != nil:
		return nil, err
	default:
		is := s.CachedInfo().Config
		if slices.Equal(is.Subjects, c.Subjects) && is.MaxMsgsPerSubject == c.MaxMsgsPerSubject && is.AllowMsgTTL && is.Replicas == c.Replicas {
			return s, nil
		}
	}
	return js.CreateOrUpdateStream(ctx, c)
}

// anyStream is one that takes a subject, "" if none does.
func anyStream(ctx context.Context, js jetstream.JetStream, subject string) (name string, err error) {
	list := js.StreamNames(ctx, jetstream.WithStreamListSubject(subject))
	for n := range list.Name() { // to the end: so that the list's goroutine ends
		name = n
	}
	return name, list.Err()
}

// lookup returns the entry of a log as last seen, asking the broker only if it
// was never seen. ErrNotFound: there is none, or it is being deleted.
func (c *catalog) lookup(ctx context.Context, log string) (entry, error) {
	c.mu.RLock()
	e, ok := c.known[log]
	c.mu.RUnlock()
	if ok {
		return e, nil
	}
	return c.fetch(ctx, log)
}

// fetch asks the broker. ErrNotFound: there is none, or it is being deleted.
func (c *catalog) fetch(ctx context.Context, log string) (entry, error) {
	e, err := c.read(ctx, log)
	if err != nil {
		return entry{}, err
	}
	if e.State != live && e.State != sealed {
		return entry{}, fmt.Errorf("log %q: %w", log, backend.ErrNotFound)
	}
	return e, nil
}

// read is the entry in any state; deleted if there never was one.
func (c *catalog) read(ctx context.Context, log string) (entry, error) {
	m, err := ask(ctx, c.turns, c.limit, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return c.stream.GetLastMsgForSubject(ctx, c.names.logEntry(log))
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		c.remember(entry{Name: log, State: deleted})
		return entry{Name: log, State: deleted}, nil
	}
	if err != nil {
		return entry{}, adminError("read catalog", err)
	}
	var e entry
	if err := json.Unmarshal(m.Data, &e); err != nil {
		return entry{}, fmt.Errorf("catalog entry of log %q: %w", log, err)
	}
	e.Name, e.revision = log, m.Sequence // JSON keeps only what is UTF-8
	e.complete(c.names)
	c.remember(e)
	return e, nil
}

func (c *catalog) remember(e entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.State == live || e.State == sealed {
		c.known[e.Name] = e
	} else {
		delete(c.known, e.Name)
	}
}

// write stores e if its revision is still the last one; 0 means: if there is
// none. errConflict: it is not. It returns e with its new revision.
func (c *catalog) write(ctx context.Context, e entry) (entry, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return e, err
	}
	var o []jetstream.PublishOpt
	if e.State == deleted {
		o = append(o, jetstream.WithMsgTTL(forgetAfter))
	}
	e.complete(c.names)
	end, err := c.turns.take(ctx)
	if err != nil {
		return e, err
	}
	defer end()
	if e.revision, err = c.put(ctx, c.names.logEntry(e.Name), data, e.revision, o...); err == nil {
		c.remember(e)
	}
	return e, err
}

// put is a compare and set of one subject.
func (c *catalog) put(ctx context.Context, subject string, data []byte, revision uint64, o ...jetstream.PublishOpt) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	a, err := c.js.Publish(ctx, subject, data, append(o, jetstream.WithExpectLastSequencePerSubject(revision))...)
	if hasCode(err, codeWrongLastSequence) || hasCode(err, codeWrongLastConstant) {
		return 0, errConflict
	}
	if err != nil {
		return 0, adminError("write catalog", err)
	}
	return a.Sequence, nil
}

// lease is a claim on something that one process at a time may do. The broker
// forgets it when it has not been renewed for its time.
type lease struct {
	c        *catalog
	subject  string
	holder   []byte
	ttl      time.Duration
	revision uint64
	until    time.Time // by our clock, from before the broker's began
}

// acquire takes the lease, or renews it. errConflict: another holds it; a
// lease that was lost stays lost until acquire says nil again.
func (l *lease) acquire(ctx context.Context) error {
	began := time.Now()
	r, err := l.c.put(ctx, l.subject, l.holder, l.revision, jetstream.WithMsgTTL(l.ttl))
	if errors.Is(err, errConflict) {
		l.revision, l.until = 0, time.Time{}
	}
	if err != nil {
		return err
	}
	l.revision, l.until = r, began.Add(l.ttl)
	return nil
}

// held tells whether the lease is surely ours still.
func (l *lease) held() bool { return l.revision != 0 && time.Now().Before(l.until) }

// release gives the lease back. If it was lost meanwhile nothing happens.
func (l *lease) release(ctx context.Context) {
	if l.revision == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, l.c.limit)
	defer cancel()
	// By its sequence: another's lease has another. If this fails, the
	// broker forgets the lease in its time.
	_ = l.c.stream.DeleteMsg(ctx, l.revision)
	l.revision, l.until = 0, time.Time{}
}

// clearLeases forgets all leases: of holders that are known to be dead.
func (c *catalog) clearLeases(ctx context.Context) error {
	err := c.stream.Purge(ctx, jetstream.WithPurgeSubject(c.names.lease(">")))
	return adminError("clear leases", err)
}
