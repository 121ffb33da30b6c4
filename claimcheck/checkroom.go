package claimcheck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Config of a Checkroom. Stores, Current and Keys are required.
type Config struct {
	// Stores by id. Current is the one that payloads are written to; the
	// others are read until nothing refers to them any more.
	Stores  map[string]Store
	Current string
	Keys    *Keys
	// TTL is how long a payload is kept without a renewal; 7 days if zero.
	// Two processes may have different ones.
	TTL time.Duration
	// Slack is kept on top of every time, for clocks that differ and calls that
	// take long; 10 minutes if zero.
	Slack time.Duration
	// Keep is how many bytes of payloads of up to 2 MiB are kept in memory as well, to be
	// handed out of it; 0 for none.
	Keep int
	// Observer is told what happens; may be nil.
	Observer Observer
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Validate tells what is wrong with c.
func (c *Config) Validate() error {
	if c.Keys == nil {
		return errors.New("claim check: no signing keys")
	}
	if c.TTL < 0 || c.Slack < 0 {
		return fmt.Errorf("claim check: ttl %v and slack %v must not be negative", c.TTL, c.Slack)
	}
	return (&rooms{c.Stores, c.Current}).validate()
}

// Checkroom stores payloads and hands out claims to them. It does not close its
// stores. All methods may be called by many goroutines at once.
type Checkroom struct {
	keys   *Keys
	ttl    time.Duration
	slack  time.Duration
	notify Observer
	now    func() time.Time
	rooms  atomic.Pointer[rooms]
	linked recent
	seals  *seals
	kept   *kept

	mu      sync.Mutex     // guards what follows, and changes of rooms
	putting map[string]int // payloads on their way, by the id of their store
}

// rooms are the stores at one time; never changed.
type rooms struct {
	stores  map[string]Store
	current string
}

func (r *rooms) validate() error {
	if r.stores[r.current] == nil {
		return fmt.Errorf("claim check: no current store %q", r.current)
	}
	for id, s := range r.stores {
		if id == "" || len(id) > MaxStoreID || s == nil {
			return fmt.Errorf("claim check: invalid store %q", id)
		}
	}
	return nil
}

// New makes a Checkroom.
func New(c Config) (*Checkroom, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := &Checkroom{
		keys: c.Keys, notify: c.Observer, now: c.Now,
		ttl:     cmp.Or(c.TTL, 7*24*time.Hour),
		slack:   cmp.Or(c.Slack, 10*time.Minute),
		putting: map[string]int{},
		kept:    newKept(c.Keep),
	}
	if sealsAreQuick {
		r.seals = newSeals()
	}
	if r.notify == nil {
		r.notify = unobserved{}
	}
	if r.now == nil {
		r.now = time.Now
	}
	r.rooms.Store(&rooms{maps.Clone(c.Stores), c.Current})
	return r, nil
}

// Use replaces the stores, at runtime. Calls under way go on with the former
// ones: keep an old store open until Holds says that nothing is in it, and every
// process uses the new one.
func (r *Checkroom) Use(stores map[string]Store, current string) error {
	next := &rooms{maps.Clone(stores), current}
	if err := next.validate(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rooms.Store(next)
	return nil
}

// begin a put into the current store. It must be ended.
func (r *Checkroom) begin() (now *rooms, end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now = r.rooms.Load()
	r.putting[now.current]++
	return now, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.putting[now.current]--
	}
}

// Storing are the ids of the stores that payloads are on their way to, and that of the
// current one first: those that this process may write to.
func (r *Checkroom) Storing() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := []string{r.rooms.Load().current}
	for id, n := range r.putting {
		if n > 0 && id != ids[0] {
			ids = append(ids, id)
		}
	}
	return ids
}

// Holds tells whether there is any payload in a store, or on its way into it from
// this process. Once it is false of a store that is no longer the current one, it
// stays so.
func (r *Checkroom) Holds(ctx context.Context, id string) (bool, error) {
	s, err := r.store(id)
	if err != nil {
		return false, err
	}
	// First what is on its way: it is in the store when it no longer is.
	r.mu.Lock()
	coming := r.putting[id] > 0
	r.mu.Unlock()
	if coming {
		return true, nil
	}
	for _, err := range s.List(ctx, payloads) {
		return err == nil, err
	}
	return false, nil
}

// store is one of the stores. One that is not configured can become so: its
// payloads are out of reach, not gone.
func (r *Checkroom) store(id string) (Store, error) {
	rooms := r.rooms.Load()
	if s := rooms.stores[id]; s != nil {
		return s, nil
	}
	known := slices.Sorted(maps.Keys(rooms.stores))
	return nil, fmt.Errorf("%w: store %q is not configured, only %q", ErrUnavailable, id, known)
}

// ParseHeader reads a claim from a record of owner.
func (r *Checkroom) ParseHeader(header, owner string) (Claim, error) {
	return r.keys.ParseHeader(header, owner)
}

// Header encodes a claim for a record of its owner.
func (r *Checkroom) Header(c Claim) (string, error) { return r.keys.Header(c) }

// Payload is what Store stores.
type Payload struct {
	// Owner is the channel, "namespace/name", whose record will carry the claim.
	Owner string
	// ContentType as its sender gave it; what is longer than MaxContentType is
	// refused.
	ContentType string
	// Head is what has been read of the payload, Rest yields what follows.
	// Store does not keep Head.
	Head []byte
	Rest io.Reader
	// Length of the payload if it was announced, or negative. A payload that
	// has another length is refused: it was cut.
	Length int64
	// Limit is the largest size that is taken; 0 for any.
	Limit int64
	// Same is a claim of what the payload may be equal to, such as that of the
	// event that it answers. If it is, it is not stored again.
	Same *Claim
}

// Store writes a payload in one pass and returns the claim to it. When it
// fails, nothing is stored. The errors are those of a Store, ErrTooLarge, ErrLength,
// ErrSlow, and those of Rest and ctx as they are.
//
// Put, then publish, then answer: if the process dies in between, what is left
// is an object that nothing refers to, and is swept when its time is over.
func (r *Checkroom) Store(ctx context.Context, p Payload) (Claim, error) {
	c, err := r.storePayload(ctx, p)
	if err != nil {
		r.notify.Failed(OpStore, err)
		return Claim{}, fmt.Errorf("store payload of %s: %w", p.Owner, err)
	}
	return c, nil
}

// Memory is how many bytes Store takes meanwhile for a payload of so many, at most;
// length is negative if it is not known.
func (r *Checkroom) Memory(length int64) int64 {
	n := int64(chunksAhead*chunkSize + sealChunk)
	if length >= 0 {
		n = min(n, length)
	}
	rooms := r.rooms.Load()
	if s, ok := rooms.stores[rooms.current].(Buffering); ok {
		n += s.PutMemory(length)
	}
	return n
}

func (r *Checkroom) storePayload(ctx context.Context, p Payload) (Claim, error) {
	if p.Limit > 0 && p.Length > p.Limit {
		return Claim{}, fmt.Errorf("%w: %d bytes, more than %d", ErrTooLarge, p.Length, p.Limit)
	}
	rooms, end := r.begin()
	defer end()
	c := Claim{
		Store: rooms.current, Owner: p.Owner, ContentType: p.ContentType,
		Expires: wholeSeconds(r.now().Add(r.ttl)),
	}
	c.Object = newKey(c.Owner, c.Expires).payload()
	if err := c.validate(); err != nil {
		return Claim{}, err
	}
	src := p.reader()
	if p.Same != nil {
		same, rest, err := r.compare(ctx, &p, src)
		if err != nil {
			return Claim{}, err
		}
		if same {
			return r.reuse(ctx, &p)
		}
		defer rest.close()
		src = rest
	}
	// One of the two: what is in memory is not checked on its way out.
	kept, seal := r.kept.begin(p.Length), (*sealing)(nil)
	if kept == nil {
		seal = r.seals.begin()
	}
	pr := newPayloadReader(src, p.Limit, p.Length, seal, kept)
	defer pr.close()
	// From then on whoever publishes it would have to renew it, and a
	// sweeper that is quicker would delete it.
	pr.late = func() bool { return c.Expires.Sub(r.now()) < r.ttl/2 }
	return r.put(ctx, rooms.stores[rooms.current], c, pr)
}

func (r *Checkroom) put(ctx context.Context, s Store, c Claim, pr *payloadReader) (Claim, error) {
	start := r.now()
	if err := s.Put(ctx, c.Object, pr); err != nil {
		return Claim{}, err
	}
	c.Size, c.SHA256, c.Blocks = pr.size, pr.whole, pr.blocks
	r.seals.keep(&c, pr.seal)
	r.kept.keep(&c, pr.kept)
	r.notify.Stored(c.Size, r.now().Sub(start))
	return c, nil
}
