package claimcheck_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/blobstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	owner = "team-a/pics"
	mib   = 1 << 20
	ttl   = 24 * time.Hour
	slack = 10 * time.Minute
)

func keys(t testing.TB, secrets ...string) *claimcheck.Keys {
	t.Helper()
	if len(secrets) == 0 {
		secrets = []string{"one"}
	}
	var all [][]byte
	for _, s := range secrets {
		all = append(all, bytes.Repeat([]byte(s), 32))
	}
	k, err := claimcheck.NewKeys(all...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// clock is set by the test.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// fixture is a Checkroom over a store in memory.
type fixture struct {
	*claimcheck.Checkroom
	clock *clock
	store *spy
	seen  *counts
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	inner := blobstore.Memory()
	t.Cleanup(func() { _ = inner.Close() })
	f := &fixture{
		clock: &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)},
		store: &spy{Store: inner}, seen: &counts{},
	}
	f.Checkroom = f.room(t, map[string]claimcheck.Store{"main": f.store}, "main")
	return f
}

func (f *fixture) room(t testing.TB, stores map[string]claimcheck.Store, current string) *claimcheck.Checkroom {
	t.Helper()
	r, err := claimcheck.New(claimcheck.Config{
		Stores: stores, Current: current, Keys: keys(t),
		TTL: ttl, Slack: slack, Observer: f.seen, Now: f.clock.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (f *fixture) put(t testing.TB, data []byte) claimcheck.Claim {
	t.Helper()
	return f.putFor(t, owner, data)
}

func (f *fixture) putFor(t testing.TB, channel string, data []byte) claimcheck.Claim {
	t.Helper()
	head := min(len(data), 1000)
	c, err := f.Store(t.Context(), claimcheck.Payload{
		Owner: channel, ContentType: "image/png", Length: -1,
		Head: data[:head], Rest: onlyReader(data[head:]),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// objects are the names in the store.
func (f *fixture) objects(t testing.TB) []string {
	t.Helper()
	var names []string
	for o, err := range f.store.List(context.Background(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, o.Name)
	}
	return names
}

// sweep sweeps, where the records of what is live were just stored.
func (f *fixture) sweep(t testing.TB, live ...claimcheck.Claim) claimcheck.Swept {
	t.Helper()
	swept, err := f.Sweep(t.Context(), refer(live...))
	if err != nil {
		t.Fatal(err)
	}
	return swept
}

// refer is what the logs say when they hold records of these claims, each
// published when the last was that its claim allows.
func refer(live ...claimcheck.Claim) claimcheck.Oldest {
	return func(_ context.Context, namespace string) (oldest time.Time, _ error) {
		for _, c := range live {
			if at := c.Expires.Add(-ttl / 2); c.Namespace() == namespace && (oldest.IsZero() || at.Before(oldest)) {
				oldest = at
			}
		}
		return oldest, nil
	}
}

func readAll(t testing.TB, r *claimcheck.Checkroom, c claimcheck.Claim) ([]byte, error) {
	t.Helper()
	body, err := r.Open(t.Context(), c)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(body)
	return b, errors.Join(err, body.Close())
}

// readChunks is readAll without a copy between.
func readChunks(t testing.TB, r *claimcheck.Checkroom, c claimcheck.Claim) (all []byte, err error) {
	t.Helper()
	body, err := r.Open(t.Context(), c)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	chunked, ok := body.(claimcheck.Chunked)
	if !ok {
		t.Fatalf("a %T is not chunked", body)
	}
	const most = 70_000
	for {
		p, err := chunked.Next(most)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if len(p) == 0 || len(p) > most {
			t.Fatalf("%d bytes came, want 1 to %d", len(p), most)
		}
		all = append(all, p...)
	}
}

func wantPayload(t testing.TB, r *claimcheck.Checkroom, c claimcheck.Claim, want []byte) {
	t.Helper()
	got, err := readAll(t, r, c)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes of %d, equal: %v, %v", len(got), len(want), bytes.Equal(got, want), err)
	}
}

func randomBytes(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// onlyReader hides all but Read, as a request's body does.
func onlyReader(b []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(b)} }

// spy is a store that counts, and that can be made to die: after a number of
// calls, each counted when it begins and when it is done, nothing has an effect any
// more.
type spy struct {
	claimcheck.Store
	mu       sync.Mutex
	puts     int
	dieAfter int // 0 for never
	steps    int
	err      error // of each call, if set
}

var errDead = errors.New("the process is dead")

func (s *spy) step() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps++
	if s.dieAfter > 0 && s.steps > s.dieAfter {
		return errDead
	}
	return s.err
}

func (s *spy) Put(ctx context.Context, name string, r io.Reader) error {
	if err := s.step(); err != nil {
		return err
	}
	s.mu.Lock()
	s.puts++
	s.mu.Unlock()
	if err := s.Store.Put(ctx, name, r); err != nil {
		return err
	}
	return s.step()
}

func (s *spy) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	return s.Store.Open(ctx, name, offset, length)
}

func (s *spy) Delete(ctx context.Context, name string) error {
	if err := s.step(); err != nil {
		return err
	}
	if err := s.Store.Delete(ctx, name); err != nil {
		return err
	}
	return s.step()
}

func (s *spy) List(ctx context.Context, prefix string) iter.Seq2[claimcheck.Object, error] {
	if err := s.step(); err != nil {
		return func(yield func(claimcheck.Object, error) bool) { yield(claimcheck.Object{}, err) }
	}
	return s.Store.List(ctx, prefix)
}

// overwrite changes what is stored behind everybody's back.
func (s *spy) overwrite(t testing.TB, name string, change func([]byte) []byte) {
	t.Helper()
	r, err := s.Store.Open(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Store.Put(t.Context(), name, bytes.NewReader(change(b))); err != nil {
		t.Fatal(err)
	}
}

// counts is an Observer.
type counts struct {
	mu                                       sync.Mutex
	stored, fetched, reused, deleted, sweptB int64
	storedN, whole, reusedN, sweptN          int
	failed                                   map[claimcheck.Op]int
}

func (c *counts) with(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *counts) Stored(n int64, _ time.Duration) { c.with(func() { c.stored += n; c.storedN++ }) }
func (c *counts) Reused(n int64)                  { c.with(func() { c.reused += n; c.reusedN++ }) }
func (c *counts) Deleted(n int64)                 { c.with(func() { c.deleted += n }) }
func (c *counts) Swept(n int64)                   { c.with(func() { c.sweptB += n; c.sweptN++ }) }

func (c *counts) Fetched(n int64, whole bool) {
	c.with(func() {
		c.fetched += n
		if whole {
			c.whole++
		}
	})
}

func (c *counts) Failed(op claimcheck.Op, _ error) {
	c.with(func() {
		if c.failed == nil {
			c.failed = map[claimcheck.Op]int{}
		}
		c.failed[op]++
	})
}
